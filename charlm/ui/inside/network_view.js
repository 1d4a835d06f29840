// The model as one line a part, from the characters to the scores, with the guess after each part that can be
// read, before and after the parts were changed; and the sentence on the part or the guess that is pointed at.
const { el, glyphs, textBox, characters, ending, count, percent, heat, walk, thread, surgery } =
  window.charlm;
const root = element.querySelector(".network_view");
const TINT = 0.8; // Dark enough to be seen, light enough to be read on.

const heading = el("h2");
const story = el("div", { class: "story" });
const hint = el("p", { class: "hint", text: "Click a character: what does the model expect after it?" });
const textView = textBox("The text: after which character");
const ends = el("p", { class: "ends", role: "status" });
const strip = el("div", {
  class: "strip",
  role: "group",
  "aria-label": "The parts, and the guess after each",
});
const say = el("p", { class: "say", role: "status" });

function chip({ char, p }, data) {
  const attributes = { type: "button", class: "chip", "data-char": char, ...data };
  return el(
    "button",
    { ...attributes, style: `background: ${heat(TINT * p)}` },
    el("b", {}, glyphs(char)),
    el("i", { text: percent(p) }),
  );
}

function line(part, i) {
  const { name, shape, parameters, adds, guesses, changes } = part;
  const facts = `(${shape.join(", ")})${parameters ? ` · ${count(parameters)} parameters` : ""}`;
  const node = el(
    "div",
    { class: "part", "data-part": name },
    el("span", { class: "sign", "aria-hidden": "true", text: i ? (adds ? "+" : "↓") : "" }),
    el(
      "button",
      { type: "button", class: "name", "data-part-index": i },
      el("b", { text: name }),
      " ",
      el("small", { text: facts }),
    ),
  );
  if (changes.length) node.lastChild.append(" ", el("small", { class: "changes", text: changes.join(", ") }));
  const chips = guesses.map((g, k) => chip(g, { "data-part-index": i, "data-guess": k }));
  if (chips.length) node.append(el("div", { class: "guesses" }, el("div", { class: "guess" }, ...chips)));
  if (part.shift) node.lastChild.append(earlier(part, i));
  node.classList.toggle("shifted", Boolean(part.shift));
  if (part.switches.length)
    node.append(el("span", { class: "switches" }, ...part.switches.map((s) => toggle(s, part, i))));
  return node;
}

// What was guessed before the model was changed, and what became of the best guess.
function earlier({ shift, guessed }, i) {
  const { char, before, after } = shift;
  const chips = guessed.map((g, k) => chip(g, { "data-part-index": i, "data-guessed": k }));
  const moved = el("b", { class: "moved" }, glyphs(char), `\u00a0${percent(before)} → ${percent(after)}`);
  return el("div", { class: "earlier" }, moved, el("span", { text: "before:" }), ...chips);
}

function toggle({ name, part, on }, { name: whole }, i) {
  return el("button", {
    type: "button",
    class: "switch",
    "data-part-index": i,
    "data-switch": part,
    "aria-pressed": `${on}`,
    "aria-label": `${whole}, ${name}`,
    text: name,
  });
}

// The sentence on an item of the strip, a part or a guess, and the same character wherever it stands.
function point(item) {
  const part = props.value.parts[item.dataset.partIndex];
  const { char, guess, guessed } = item.dataset;
  for (const other of strip.querySelectorAll(".chip"))
    other.classList.toggle("target", char !== undefined && other.dataset.char === char);
  if (item.dataset.switch) {
    const { name, on } = part.switches.find((s) => s.part === item.dataset.switch);
    say.textContent = on
      ? `Switch the ${name} of ${part.name} off: it then adds nothing, and the guesses before and after are compared.`
      : `The ${name} of ${part.name} is off. Switch it on again.`;
    return;
  }
  if (char === undefined) {
    const changes = part.changes.length ? ` Changed: ${part.changes.join(", ")}.` : "";
    say.textContent = `${part.name}: ${part.does}. What leaves it has the shape (${part.shape.join(", ")}): batch, characters${part.shape.length > 2 ? ", channels or scores" : ""}.${changes}`;
    return;
  }
  const { p, score, total } = guess === undefined ? part.guessed[guessed] : part.guesses[guess];
  say.replaceChildren(
    `After ${part.name}${guess === undefined ? ", before the change" : ""}: `,
    glyphs(char),
    ` has the score ${score.toFixed(2)}. Softmax over all ${count(props.value.vocab_size)} characters: `,
    `e^${score.toFixed(2)} / e^${total.toFixed(2)} = ${percent(p)}, e^${total.toFixed(2)} being the sum of e^score.`,
  );
}

function choose(item) {
  const i = items().indexOf(item);
  if (i < 0 || i === (thread.placeIn(props.value.read) ?? props.value.place)) return;
  thread.pin(props.value.read, i);
  trigger("input"); // Not "select", which asks for edits.
}

const stops = () => [...strip.querySelectorAll("button")];
const items = () => [...textView.querySelectorAll(".ch")];

function drawText({ read, place }) {
  const focused = textView.contains(document.activeElement);
  textView.replaceChildren(...characters(read));
  items().forEach((node, i) => {
    node.classList.toggle("target", i === place);
    node.classList.toggle("future", i > place);
    node.setAttribute("aria-selected", i === place);
  });
  textWalk.begin(place);
  if (focused) items()[place].focus({ preventScroll: true });
}

// Which guess is shown, and what came.
function tellGuess({ read, place, came, parts, changed }) {
  const before = ending([...read].slice(0, place + 1).join(""));
  ends.replaceChildren("After ", el("code", {}, glyphs(before)), " the guess is …");
  if (came)
    ends.append(
      " Your text goes on with ",
      el("code", {}, glyphs(came.char)),
      `, to which the model gives ${percent(came.p)}.`,
    );
  const { shift } = parts.findLast((part) => part.guesses.length);
  if (!changed) return;
  if (shift)
    ends.append(
      " Before the change, the best guess was ",
      el("code", {}, glyphs(shift.char)),
      `: ${percent(shift.before)} then, ${percent(shift.after)} now.`,
    );
  else ends.append(" The change moves this guess by less than 0.1 %.");
}

// Switches a part off, or on again.
function flip({ dataset }) {
  const { on } = props.value.parts[dataset.partIndex].switches.find((s) => s.part === dataset.switch);
  surgery.want({ [dataset.switch]: on ? "off" : "on" }, props.value.made);
  trigger("select");
}

function drawStrip(parts) {
  const focused = strip.contains(document.activeElement) ? stops().indexOf(document.activeElement) : -1;
  const part = document.activeElement.dataset.switch;
  strip.replaceChildren(...parts.map(line));
  const again = part ? strip.querySelector(`[data-switch="${part}"]`) : stops()[focused];
  steps.begin(Math.max(0, stops().indexOf(again)));
  if (focused >= 0) again?.focus({ preventScroll: true });
}

const HINT = "Point at a part or a guess: here is said where it comes from.";

function draw() {
  const v = props.value;
  if (!v?.parts) {
    root.replaceChildren();
    return;
  }
  heading.textContent = `${count(v.total)} parameters, shapes (B, T, C)`;
  story.replaceChildren(...v.story.map((text) => el("p", { text })));
  drawText(v);
  tellGuess(v);
  say.textContent = HINT;
  drawStrip(v.parts);
  if (!root.firstChild) root.append(heading, hint, textView, ends, strip, say, story);
}

const steps = walk(strip, "button", point);
const textWalk = walk(textView, ".ch", () => {});
strip.addEventListener("click", ({ target }) => {
  const item = target.closest(".switch");
  if (item) flip(item);
});
textView.addEventListener("click", ({ target }) => choose(target.closest(".ch")));
textView.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" && event.key !== " ") return;
  event.preventDefault();
  choose(event.target.closest(".ch"));
});
watch("value", draw);
draw();
