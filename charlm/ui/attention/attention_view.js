// The text with arcs from the pinned character to those it looks at; the open head, with what becomes of it; small
// multiples of every head; and the open head as scores → mask → softmax, of which one weight can be set. All linked.
const { el, answered, glyphs, count, percent, floats, scale, thread, surgery, attending } = window.charlm;
const { STEPS, tint, signed, keyOf, nameOf, settingOf } = attending;
const root = element.querySelector(".attention_view");
const PHRASES = { average: "made a plain average", silent: "silenced", off: "silenced with its whole layer" };
const ALIKE = 1e-5;

let v = null; // What is on the screen:
let chars = [];
let version = "changed"; // the model as it is changed, or as it was learned;
let chosen = null; // the open head,
let picked = false; // whether a visitor opened it,
let head = null; // its numbers;
let row = null; // the pinned character's weights as they were, if one of them is set by hand;
let known = new Map(); // heads that were asked for;
let isLaidOut = false; // whether all that was in sight when it was drawn;
let pinned = { i: -1, j: null }; // the character that is pinned, maybe with one it looks at.

const heading = el("h2");
const versions = attending.choice(
  "attention-version",
  "Which model is shown",
  [
    ["changed", "as changed"],
    ["learned", "as learned"],
  ],
  compare,
);
const cut = el("p", { class: "hint cut" });
const text = window.charlm.attendingText({
  point: (i) => turn({ i, j: null }),
  leave: comeBack,
  choose: (i) => choose({ i, j: null }),
});
const does = el("p", { class: "does", role: "status" });
const usual = el("p", { class: "usual", role: "status" });
const operation = window.charlm.headOperation((setting) => {
  const [layer, head] = chosen;
  surgery.want({ [`${layer + 1}.${head + 1}`]: setting }, v.made);
  version = "changed";
  root.classList.add("working");
  trigger("select");
});
const say = el("p", { class: "say", role: "status" });
const missing = el("p", { class: "missing", role: "status" });
const omit = el("button", { type: "button", onclick: leaveOut });
const tiles = window.charlm.headTiles((layer, head) => {
  picked = true;
  openHead(layer, head);
});
const measuring = window.charlm.headMeasuring({
  begin: (model) => answered(server.measure({ model })),
  look: (model) => answered(server.measured({ model })),
  finish: (model, found) => {
    if (v?.base !== model) return;
    v.known = found;
    measuring.show(v.base, false, null);
    tiles.draw(v, version);
    tellUsual();
  },
});
const maps = window.charlm.headMaps({
  point: (i, j) => {
    turn({ i, j });
    text.reveal(i);
  },
  leave: comeBack,
  choose,
});
const cell = window.charlm.cellEditor({
  ask: ({ row, column, weight }) => {
    const [layer, head] = chosen;
    const { model } = v[version];
    return answered(server.with_weight({ model, text: v.text, layer, head, row, column, weight }));
  },
  changed: setRow,
  pointAt: (j) => {
    pinned = { ...pinned, j };
    turn(pinned);
  },
});
const principles = el("dl", { class: "principles" });
const look = el(
  "div",
  { class: "look" },
  el(
    "section",
    {},
    el("div", { class: "heading" }, heading, versions.node),
    cut,
    text.node,
    scale("Weight, in the text:", keyOf(STEPS, tint)),
    say,
  ),
  el("section", { class: "open-head" }, does, usual, operation.node, omit, missing),
);
const steps = el(
  "section",
  {},
  el("h2", { text: "From scores to weights" }),
  maps.node,
  cell.node,
  principles,
);

const indexOf = (layer, head) => (layer < 0 ? 0 : 1 + layer * v.n_head + head);

// What a head does on this text, in words.
function habit(layer, head) {
  const [words, weight] = v[version].does[indexOf(layer, head)];
  return weight === null ? words : `${words}: mean weight ${weight.toFixed(2)}`;
}

// The numbers of a head, from the server if they were not asked for before.
async function numbersOf(model, layer, head) {
  const { id, text } = v;
  const key = `${model} ${layer} ${head}`;
  if (known.has(key)) return known.get(key);
  const answer = await answered(server.head_maps({ model, text, layer, head }));
  const numbers = answer.error
    ? answer
    : { weights: floats(answer.weights), scores: answer.scores && floats(answer.scores) };
  if (id === v?.id && !answer.error) known.set(key, numbers);
  return numbers;
}

async function openHead(layer, headNumber) {
  const { id } = v;
  const wanted = v[version].model;
  chosen = [layer, headNumber];
  tiles.mark(layer, headNumber);
  root.classList.add("working");
  const numbers = await numbersOf(wanted, layer, headNumber);
  if (id !== v?.id || wanted !== v[version].model || chosen[0] !== layer || chosen[1] !== headNumber) return;
  root.classList.remove("working");
  if (numbers.error) return fail(numbers.error);
  head = { ...numbers, weights: numbers.weights.slice() };
  row = null;
  tellHead(layer, headNumber);
  maps.draw(describe());
  pin(pinned);
  comeBack();
}

// What the maps draw.
const describe = () => ({
  ...head,
  chars,
  size: v.scaled ? v.head_size : null,
  causal: v.causal,
  called: nameOf(...chosen),
  does: habit(...chosen),
});

function fail(error) {
  head = null;
  does.textContent = error;
  say.replaceChildren();
  maps.clear();
}

function tellHead(layer, headNumber) {
  const name = nameOf(layer, headNumber);
  heading.textContent = `${name}: where each character looks`;
  const setting = layer < 0 || version === "learned" ? "learned" : settingOf(v.settings, layer, headNumber);
  const phrase = PHRASES[setting] ?? (setting === "learned" ? "" : `multiplied by ${setting.slice(1)}`);
  const gain =
    v.gains && layer >= 0 && setting !== "average"
      ? ` Its gain is ${v.gains[indexOf(layer, headNumber) - 1].toFixed(2)}.`
      : "";
  const here = layer < 0 ? "" : "on this text, ";
  does.textContent = `${name}, ${phrase && `${phrase}, `}${here}${habit(layer, headNumber)}.${gain}`;
  operation.show(layer, layer < 0 ? "learned" : settingOf(v.settings, layer, headNumber));
  cell.node.hidden = layer < 0 || !v.causal;
  tellUsual();
}

// What the open head mostly does, and what it is worth.
function tellUsual() {
  const [layer, headNumber] = chosen;
  const k = indexOf(layer, headNumber) - 1;
  if (!v.known || k < 0) {
    usual.textContent = "";
    return;
  }
  const { excerpt, loss, silent, average } = v.known;
  const whose = v.changed.model === v.learned.model ? "" : ", as it was learned,";
  const rises = (by) => {
    const how = Math.abs(by) < 0.0005 ? "hardly changes, by" : by > 0 ? "rises by" : "falls by";
    return `${how} ${Math.abs(by).toFixed(3)} to ${(loss + by).toFixed(2)}`;
  };
  usual.textContent =
    `Mostly (on ${excerpt}) it${whose} ${v.known.usual[k][0]}. Without it the loss ${rises(silent[k])}; ` +
    `if it is a plain average, the loss ${rises(average[k])}.`;
}

// Shows the other version of the model in the same places.
function compare(which) {
  version = which;
  tiles.draw(v, version);
  openHead(...chosen);
}

// Shows for the moment where character i looks. Character j, if not null, is the one pointed at.
function turn({ i, j }) {
  if (!head || i < 0) return;
  const T = chars.length;
  const weights = head.weights.subarray(i * T, (i + 1) * T);
  text.turn(i, j, weights, seenBy(i));
  maps.mark(i, j);
  const sum = weights.reduce((total, weight) => total + weight, 0).toFixed(3);
  say.replaceChildren(...(j === null ? mostLookedAt(i, weights) : pair(i, j)), ` The row sums to ${sum}.`);
}

function pin(at) {
  setRow(null);
  pinned = at;
  text.pin(at.i);
  omit.replaceChildren("What if ", ...called(at.i), " were missing?");
  omit.hidden = chars.length < 2;
  missing.replaceChildren();
  turn(at);
  if (!head) return;
  const T = chars.length;
  cell.show(chars, at.i, at.j, head.weights.slice(at.i * T, (at.i + 1) * T));
}

// Puts other weights into the pinned character's row, or those that it had.
function setRow(weights) {
  if (!head || (weights === null && row === null)) return;
  const start = pinned.i * chars.length;
  row ??= head.weights.slice(start, start + chars.length);
  head.weights.set(weights === null ? row : floats(weights), start);
  if (weights === null) row = null;
  maps.drawWeights(describe());
  turn(weights === null ? pinned : { i: pinned.i, j: null });
}

// Says what the model makes of the text without the pinned character.
async function leaveOut() {
  const { id, text } = v;
  const { i } = pinned;
  const { model } = v[version];
  const answer = await answered(server.without({ model, text, i }));
  if (id !== v?.id || i !== pinned.i || model !== v[version].model) return;
  if (answer.error) {
    missing.textContent = answer.error;
    return;
  }
  const list = ({ guesses }) =>
    guesses.flatMap(([char, p], k) => [k ? ", " : "", el("b", {}, glyphs(char)), ` ${percent(p)}`]);
  const loss = ({ loss }) => loss.toFixed(2);
  missing.replaceChildren(
    "At the end of the text the model expects ",
    ...list(answer.with),
    "; without it, ",
    ...list(answer.without),
    ".",
    answer.with.loss === null
      ? ""
      : ` The rest of the text costs it ${loss(answer.with)} nats per character; without it, ${loss(answer.without)}.`,
  );
}

// Pins a character, for the other tabs too.
function choose(at) {
  if (Math.max(at.i, at.j ?? 0) >= chars.length) return;
  thread.pin(v.text, at.i);
  pin(at);
}

// Back to the character that has the focus, else to the one that is pinned.
function comeBack() {
  const focused = text.focused();
  turn(focused < 0 ? pinned : { i: focused, j: null });
}

// How many characters the i-th can see.
const seenBy = (i) => (v.causal ? i + 1 : chars.length);

const called = (t) => [glyphs(chars[t]), ` (${t})`];

function mostLookedAt(i, weights) {
  const seen = [...weights.keys()].slice(0, seenBy(i)).sort((a, b) => weights[b] - weights[a]);
  const byHand = row && i === pinned.i ? ", as set by hand," : "";
  if (seen.length > 1 && weights[seen[0]] - weights[seen.at(-1)] < ALIKE)
    return [...called(i), `${byHand} looks at all ${seen.length} alike: ${weights[seen[0]].toFixed(3)}.`];
  const list = seen
    .slice(0, 3)
    .flatMap((t, k) => [k ? ", " : "", ...called(t), `: ${weights[t].toFixed(3)}`]);
  return [...called(i), `${byHand} looks most at `, ...list, "."];
}

function pair(i, j) {
  const { weights, scores } = head;
  const at = i * chars.length + j;
  const weight = `weight ${weights[at].toFixed(4)}`;
  const who = [...called(i), " looking at ", ...called(j)];
  if (!scores) return [...who, `: ${weight}, the mean of all heads.`];
  const score = `q·k${v.scaled ? `/√${v.head_size}` : ""} = ${signed(scores[at])}`;
  if (j >= seenBy(i)) return [...who, `: score ${score}, masked: −∞, ${weight}.`];
  if (row && i === pinned.i) return [...who, `: ${weight}, by hand, in place of ${row[j].toFixed(4)}.`];
  const seen = scores.subarray(at - j, at - j + seenBy(i));
  const largest = Math.max(...seen);
  const sum = largest + Math.log(seen.reduce((total, s) => total + Math.exp(s - largest), 0));
  return [
    ...who,
    `: score ${score}, ${weight} = e^${signed(scores[at])} / e^${signed(sum)} (the sum of e^score from 0 to ${seenBy(i) - 1}).`,
  ];
}

function clear() {
  v = head = null;
  chars = [];
  maps.clear();
  root.classList.remove("working");
  root.replaceChildren();
}

function draw() {
  const value = props.value;
  if (!value?.id) return clear();
  const sameText = value.text === v?.text;
  const same = sameText && value.base === v.base;
  if (same && isLaidOut && value.changed.model === v.changed.model) return refresh(value);
  if (value.base !== v?.base) picked = false;
  v = value;
  known = new Map();
  chars = [...v.text];
  const compared = v.changed.model !== v.learned.model;
  if (!compared) version = "changed";
  takePin(same);
  const stillThere = chosen && chosen[0] < v.n_layer && chosen[1] < v.n_head;
  if (!picked || !stillThere) chosen = v.opens;
  if (!same) drawText();
  versions.set(version);
  versions.node.hidden = !compared;
  principles.replaceChildren(
    ...v.principles.flatMap(([term, words]) => [el("dt", { text: term }), el("dd", { text: words })]),
  );
  tiles.draw(v, version);
  measuring.show(v.base, !v.known, v.done);
  if (!root.firstChild) root.append(look, tiles.node, measuring.node, steps);
  if (!same) {
    pin(pinned);
    text.reveal(pinned.i);
    showEnd(v.left_out);
  }
  isLaidOut = root.clientWidth > 0;
  openHead(...chosen);
}

// The tab was opened again: what is on it stays, with what was asked and set by hand.
function refresh({ known: heads, done }) {
  const isNews = heads && !v.known;
  Object.assign(v, { known: heads, done });
  if (isNews) tiles.draw(v, version);
  measuring.show(v.base, !heads, done);
  tellUsual();
  const before = pinned;
  takePin(true);
  if (pinned !== before) pin(pinned);
}

// The pinned character of the other tabs; else, of another text or model, the last one.
function takePin(same) {
  const place = thread.placeIn(v.text);
  if (same && (place === null || place === pinned.i)) return;
  pinned = { i: place ?? chars.length - 1, j: null };
}

function drawText() {
  head = null;
  text.draw(v.text, pinned.i);
  const whole = count(v.left_out + chars.length);
  cut.textContent = v.left_out
    ? `These are the last ${count(chars.length)} of ${whole} characters: the model reads no more at a time.`
    : "";
}

// Has the box show what the picture shows, if that is only the end of its text.
function showEnd(leftOut) {
  const box = document.querySelector("#attention-text textarea");
  if (leftOut && box !== document.activeElement) box.scrollTop = box.scrollHeight;
}

watch("value", draw);
draw();
