// The text with arcs from the pinned character to those it looks at; small multiples of every head, each with
// what it does; and the open head as scores → mask → softmax, all linked.
const { MAX_LABELS, el, svg, glyphs, characters, bytes, count, percent, floats } = window.charlm;
const { colour, heat, scale, thumbnail, heatMap, walk, thread } = window.charlm;
const root = element.querySelector(".attention_view");
const TINT = 0.8; // Dark enough to be seen, light enough to be read on.
const MOST_NUMBERS = 10; // Along an edge: a number is wider than a character.
const STEPS = [0, 0.01, 0.05, 0.25, 1]; // Weights of which the scales show the colour.

let text = null; // What is on the screen, and whose attention,
let model = null;
let chars = [];
let chosen = null; // the open head,
let picked = false; // whether a visitor opened it,
let numbers = null; // its numbers
let maps = []; // and pictures;
let pinned = { i: -1, j: null }; // the character that is pinned, maybe with one it looks at,
let shown = pinned; // the one looked at for the moment,
let last = pinned; // and what a board was pointed at last: a finger that taps is gone before its click.

const heading = el("h2");
const cut = el("p", { class: "hint cut" });
const textView = el("div", {
  class: "text",
  id: "attention-chars",
  role: "listbox",
  "aria-label": "The text: who looks where",
  translate: "no",
});
const arcs = svg("svg");
const scroller = el("div", { class: "scroller" }, arcs, textView);
const does = el("p", { class: "does", role: "status" });
const say = el("p", { class: "say", role: "status" });
const missing = el("p", { class: "missing", role: "status" });
const omit = el("button", { type: "button", onclick: leaveOut });
const tiles = el("div", { class: "tiles", role: "group", "aria-label": "Every layer and head" });
const patches = el("p", { class: "hint patches" });
const panes = el("div", { class: "panes" });
const principles = el("dl", { class: "principles" });
const look = el(
  "div",
  { class: "look" },
  el("section", {}, heading, cut, scroller),
  el("section", {}, does, say, scale("Weight, in the text:", keyOf(STEPS, tint)), omit, missing),
);
const heads = el(
  "section",
  {},
  el("h2", { text: "Every layer and head" }),
  el("p", {
    class: "hint",
    text: "A tile shows how one head looks back over this text. Open one to see its numbers.",
  }),
  tiles,
  patches,
);

// The colour of a weight: its opacity is the square root, so that small ones can be seen too. In the text it is
// lighter than in the maps.
function shade(weight) {
  return colour(Math.sqrt(weight));
}
function tint(weight) {
  return heat(TINT * Math.sqrt(weight));
}

// The entries of a scale: numbers, each with its colour.
function keyOf(values, colourOf) {
  return values.map((value) => [signed(value), colourOf(value)]);
}

function signed(x) {
  return String(+x.toFixed(2)).replace("-", "−");
}
const nameOf = (layer, head) => (layer < 0 ? "All heads, averaged" : `Layer ${layer + 1}, head ${head + 1}`);
const indexOf = (layer, head) => (layer < 0 ? 0 : 1 + layer * props.value.n_head + head);

// What a head does on this text, in words, and in short for its tile.
function habit(layer, head) {
  const [words, weight] = props.value.does[indexOf(layer, head)];
  return weight === null ? words : `${words}: mean weight ${weight.toFixed(2)}`;
}
function shortHabit(layer, head) {
  const [words, weight] = props.value.does[indexOf(layer, head)];
  const short = words.replace(/^looks (at )?(the )?|^spreads |, .*| characters?/g, "");
  return weight === null ? short : `${short} ${weight.toFixed(2)}`;
}

function tile(size, weights, layer, head) {
  const attributes = {
    type: "button",
    class: "tile",
    "aria-pressed": "false",
    title: habit(layer, head),
    "data-head": `${layer}-${head}`,
    onclick: () => {
      picked = true;
      openHead(layer, head);
    },
  };
  return el(
    "button",
    attributes,
    thumbnail(size, bytes(weights), { "aria-hidden": "true" }),
    el("span", { text: nameOf(layer, head).toLowerCase() }),
    " ",
    el("small", { text: shortHabit(layer, head) }),
  );
}

function drawTiles({ tiles: weights, tile_size, n_layer, n_head }) {
  const heads = el("div", { class: "heads", style: `--heads: ${n_head}` });
  for (let layer = 0; layer < n_layer; layer++)
    for (let head = 0; head < n_head; head++)
      heads.append(tile(tile_size, weights[1 + layer * n_head + head], layer, head));
  tiles.replaceChildren(tile(tile_size, weights[0], -1, 0), heads);
  patches.textContent =
    chars.length > tile_size
      ? `A point of a tile is the largest weight of a patch: the text has more than ${tile_size} characters.`
      : "";
  tileWalk.begin(indexOf(...chosen));
}

async function openHead(layer, head) {
  const { id, model, text } = props.value;
  const answer = await server.head_maps({ model, text, layer, head });
  if (id !== props.value?.id) return;
  numbers = null;
  if (answer.error) {
    does.textContent = answer.error;
    say.replaceChildren();
    panes.replaceChildren();
    return;
  }
  chosen = [layer, head];
  numbers = { weights: floats(answer.weights), scores: answer.scores && floats(answer.scores) };
  [...tiles.querySelectorAll(".tile")].forEach((t) => {
    const open = t.dataset.head === `${layer}-${head}`;
    t.classList.toggle("chosen", open);
    t.setAttribute("aria-pressed", open);
  });
  heading.textContent = `${nameOf(layer, head)}: where each character looks`;
  const gain =
    props.value.gains && layer >= 0
      ? ` Its gain is ${props.value.gains[indexOf(layer, head) - 1].toFixed(2)}.`
      : "";
  does.textContent = `${nameOf(layer, head)}, ${layer < 0 ? "" : "on this text, "}${habit(layer, head)}.${gain}`;
  drawMaps();
  comeBack();
}

function drawMaps() {
  const { weights, scores } = numbers;
  const T = chars.length;
  // Where not every character has room for its label, positions say more.
  const [labels, most] = T <= MAX_LABELS ? [chars, MAX_LABELS] : [[...chars.keys()], MOST_NUMBERS];
  const largest = scores ? scores.reduce((most, score) => Math.max(most, Math.abs(score)), 1e-9) : 1;
  const future = (i) => i % T > Math.floor(i / T);
  const key = keyOf(
    [-1, -0.5, 0, 0.5, 1].map((x) => x * largest),
    (x) => colour(x / largest),
  );
  const masked = ["−∞, the future", "color-mix(in srgb, var(--ink) 12%, transparent)"];
  const whose = nameOf(...chosen);
  maps = [];
  const map = (name, caption, heatAt, title, key) => {
    const made = heatMap({
      name,
      caption,
      labels,
      most,
      heatAt,
      axes: { rows: "the one that looks", columns: "the one looked at" },
      point: (i, j) => {
        last = { i, j };
        turn(last);
        reveal(i);
      },
    });
    const canvas = made.figure.querySelector("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute(
      "aria-label",
      `${whose}, ${name} of ${count(T)} × ${count(T)} characters: ${habit(...chosen)}.`,
    );
    const board = made.figure.querySelector(".board");
    board.addEventListener("pointerleave", comeBack);
    board.addEventListener("focusout", comeBack);
    board.addEventListener("click", () => choose(last));
    board.addEventListener("keydown", pinByKey);
    maps.push({ ...made, pane: el("div", { class: "pane" }, made.figure, scale(title, key)) });
  };
  if (scores) {
    map("scores", `q·k/√${props.value.head_size}`, (i) => scores[i] / largest, "Score:", key);
    map("masked", "the future is −∞", (i) => (future(i) ? null : scores[i] / largest), "Score:", [
      ...key,
      masked,
    ]);
  }
  const caption = scores ? "softmax of each row" : "mean of all heads";
  map("weights", caption, (i) => Math.sqrt(weights[i]), "Weight:", keyOf(STEPS, shade));
  panes.replaceChildren(...maps.map((m) => m.pane));
}

// Shows for the moment where character i looks. Character j, if not null, is the one pointed at.
function turn({ i, j }) {
  if (!numbers || i < 0) return;
  shown = { i, j };
  const row = numbers.weights.subarray(i * chars.length, (i + 1) * chars.length);
  tintText(i, j, row);
  drawArcs();
  for (const map of maps) map.mark(i, j);
  const sum = row.reduce((total, weight) => total + weight, 0).toFixed(3);
  say.replaceChildren(...(j === null ? mostLookedAt(i, row) : pair(i, j)), ` The row sums to ${sum}.`);
}

function pin(at) {
  pinned = at;
  items().forEach((node, t) => {
    node.classList.toggle("pinned", t === at.i);
    node.setAttribute("aria-selected", t === at.i);
  });
  omit.replaceChildren("What if ", ...called(at.i), " were missing?");
  omit.hidden = chars.length < 2;
  missing.replaceChildren();
  turn(at);
}

// Says what the model makes of the text without the pinned character.
async function leaveOut() {
  const { id, model, text } = props.value;
  const { i } = pinned;
  const answer = await server.without({ model, text, i });
  if (id !== props.value?.id || i !== pinned.i) return;
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
  thread.pin(text, at.i);
  pin(at);
}

// Back to the character that has the focus, else to the one that is pinned.
function comeBack() {
  const focused = items().indexOf(document.activeElement);
  turn(focused < 0 ? pinned : { i: focused, j: null });
}

function pinByKey(event) {
  if (event.key !== "Enter" && event.key !== " ") return;
  event.preventDefault();
  choose(shown);
}

const items = () => [...textView.querySelectorAll(".ch")];

function tintText(i, j, row) {
  items().forEach((node, t) => {
    node.style.background = t < i ? tint(row[t]) : "";
    node.title = t <= i ? `weight ${row[t].toFixed(4)}` : "in the future: weight 0";
    node.classList.toggle("target", t === i);
    node.classList.toggle("lit-by-map", t === j && t !== i);
    node.classList.toggle("future", t > i);
  });
}

// Arcs from the character that looks to those it looks at, each as thick and as opaque as its weight.
function drawArcs() {
  arcs.replaceChildren();
  const { i } = shown;
  if (!numbers || i < 0 || !scroller.offsetWidth) return;
  arcs.setAttribute("width", textView.offsetWidth);
  arcs.setAttribute("height", textView.offsetHeight);
  const origin = textView.getBoundingClientRect();
  const nodes = items();
  const place = (t) => {
    const box = nodes[t].getBoundingClientRect();
    return [(box.left + box.right) / 2 - origin.left, box.top - origin.top + 2];
  };
  const [x, y] = place(i);
  for (let t = 0; t < i; t++) {
    const weight = numbers.weights[i * chars.length + t];
    if (weight < STEPS[1]) continue;
    const [x2, y2] = place(t);
    const top = Math.min(y, y2) - Math.min(16, 6 + Math.abs(x - x2) / 12);
    arcs.append(
      svg("path", {
        d: `M ${x} ${y} Q ${(x + x2) / 2} ${top} ${x2} ${y2}`,
        "stroke-width": 1 + 3 * weight,
        "stroke-opacity": Math.sqrt(weight),
      }),
    );
  }
}

// Has the text show the i-th character, without moving the page.
function reveal(i) {
  const node = items()[i];
  if (!node) return;
  const [box, view] = [node.getBoundingClientRect(), scroller.getBoundingClientRect()];
  if (box.bottom > view.bottom) scroller.scrollTop += box.bottom - view.bottom + 8;
  if (box.top < view.top) scroller.scrollTop -= view.top - box.top + 8;
}

const called = (t) => [glyphs(chars[t]), ` (${t})`];

function mostLookedAt(i, row) {
  const past = [...row.keys()].slice(0, i + 1);
  const most = past.sort((a, b) => row[b] - row[a]).slice(0, 3);
  const list = most.flatMap((t, k) => [k ? ", " : "", ...called(t), `: ${row[t].toFixed(3)}`]);
  return [...called(i), " looks most at ", ...list, "."];
}

function pair(i, j) {
  const { weights, scores } = numbers;
  const at = i * chars.length + j;
  const weight = `weight ${weights[at].toFixed(4)}`;
  const who = [...called(i), " looking at ", ...called(j)];
  if (!scores) return [...who, `: ${weight}, the mean of all heads.`];
  const score = `q·k/√${props.value.head_size} = ${signed(scores[at])}`;
  if (j > i) return [...who, `: score ${score}, masked: −∞, ${weight}.`];
  const past = scores.subarray(at - j, at - j + i + 1);
  const largest = Math.max(...past);
  const sum = largest + Math.log(past.reduce((total, s) => total + Math.exp(s - largest), 0));
  return [
    ...who,
    `: score ${score}, ${weight} = e^${signed(scores[at])} / e^${signed(sum)} (the sum of e^score from 0 to ${i}).`,
  ];
}

function clear() {
  numbers = text = model = null;
  chars = [];
  maps = [];
  root.replaceChildren();
}

function draw() {
  const v = props.value;
  if (!v?.id) return clear();
  const same = v.text === text && v.model === model;
  if (v.model !== model) picked = false;
  [text, model, numbers] = [v.text, v.model, null];
  chars = [...v.text];
  const place = thread.placeIn(text);
  if (place !== null || !same) pinned = { i: place ?? chars.length - 1, j: null };
  const stillThere = chosen && chosen[0] < v.n_layer && chosen[1] < v.n_head;
  if (!picked || !stillThere) chosen = v.opens;
  textView.replaceChildren(...characters(text));
  textWalk.begin(pinned.i);
  const whole = count(v.left_out + chars.length);
  cut.textContent = v.left_out
    ? `These are the last ${count(chars.length)} of ${whole} characters: the model reads no more at a time.`
    : "";
  principles.replaceChildren(
    ...v.principles.flatMap(([term, words]) => [el("dt", { text: term }), el("dd", { text: words })]),
  );
  drawTiles(v);
  if (!root.firstChild)
    root.append(
      look,
      heads,
      el("section", {}, el("h2", { text: "From scores to weights" }), panes, principles),
    );
  pin(pinned);
  reveal(pinned.i);
  showEnd(v.left_out);
  openHead(...chosen);
}

// Has the box show what the picture shows, if that is only the end of its text.
function showEnd(leftOut) {
  const box = document.querySelector("#attention-text textarea");
  if (leftOut && box !== document.activeElement) box.scrollTop = box.scrollHeight;
}

const textWalk = walk(textView, ".ch", (_, i) => turn({ i, j: null }));
const tileWalk = walk(tiles, ".tile", () => {});
textView.addEventListener("pointerleave", comeBack);
textView.addEventListener("focusout", ({ relatedTarget }) => {
  if (!textView.contains(relatedTarget)) turn(pinned);
});
textView.addEventListener("keydown", pinByKey);
textView.addEventListener("click", ({ target }) => {
  const i = items().indexOf(target.closest(".ch"));
  if (i >= 0) choose({ i, j: null });
});
new ResizeObserver(drawArcs).observe(root);
watch("value", draw);
draw();
