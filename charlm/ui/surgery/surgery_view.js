// Operating on a model: its switches, and what they do to its loss, to the learner's text, and to what it writes.
const { el, latest, trouble, surgery, switches, lossBars, hurt, pair } = window.charlm;
const root = element.querySelector(".surgery_view");
const INVITATION = "Nothing is changed. Make all heads plain averages: does it still write?";

let described = null; // What the server says of the model and its edits,
let asked = null; // and for which of them.

const button = (text, onclick) => el("button", { type: "button", text, onclick });
const sentence = el("p", { class: "sentence", role: "status" });
const cost = el("p", { class: "cost" });
const averageAll = button("All heads to plain averages", makeAverages);
const asItWas = button("As it was", () => want(takenBack()));
const keep = button("Keep this model", () => trigger("submit"));
const write = button("Write with it →", () => {
  surgery.goOn(texts.seed());
  trigger("apply");
});
const seeMore = button("See what it does ↓", () => {
  const behavior = matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth";
  root.scrollIntoView({ block: "start", behavior });
  root.querySelector('[data-part][tabindex="0"]').focus({ preventScroll: true });
});
seeMore.classList.add("more");
averageAll.classList.add("all");
const bar = el(
  "div",
  { class: "operation-bar" },
  el("div", {}, sentence, cost),
  el("div", { class: "buttons" }, averageAll, asItWas, keep, write, seeMore),
);
const place = el("div", {}, bar);
const board = switches((settings) => want(settings));
const losses = lossBars();
const text = hurt();
const texts = pair();
const effects = el("div", { class: "effects" }, losses.node, text.node);
const heading = el("h2", { text: "Change the model: what is each part for?" });
const parts = [heading, place, el("div", { class: "operating" }, board.node, effects), texts.node];

// Has parts set otherwise.
function want(settings) {
  surgery.want(settings, described?.made);
  trigger("select");
}

function makeAverages() {
  const settings = {};
  for (let layer = 1; layer <= described.n_layer; layer++) {
    settings[`${layer}.attention`] = "on";
    for (let head = 1; head <= described.n_head; head++) settings[`${layer}.${head}`] = "average";
  }
  want(settings);
}

// The settings that take all edits back.
function takenBack() {
  const own = (part) => described?.made?.[part] ?? surgery.neutral(part);
  return Object.fromEntries([...surgery.parse(asked.edits).keys()].map((part) => [part, own(part)]));
}

const askDescription = latest(root, server.describe, (answer, question) => {
  if (question.model === asked.model && question.edits === asked.edits) showDescription(answer);
});
const askEffect = latest(text.node, server.effect, (answer, { original, changed }) => {
  if (answer.error) text.fail(answer.error);
  else text.show(answer);
  texts.want(answer.error ? null : { original, changed, prompt: answer.text });
});
const askLoss = latest(losses.node, server.loss, (answer) => {
  if (answer.error) losses.fail(answer.error);
  else losses.show(answer);
  cost.textContent = answer.error ?? `${losses.inShort(answer)}.`;
});

const isChanged = () => Boolean(described?.changed) && described.changed !== described.original;

function showDescription(answer) {
  const isKnown = "n_layer" in answer;
  root.inert = false;
  // What was shown before stays on the screen beside what is wrong with the edits.
  const isDrawn = heading.isConnected;
  if (!isKnown && !(answer.error && (asked.edits || answer.isLost) && isDrawn)) {
    described = null;
    root.replaceChildren(
      ...(answer.isLost ? [el("p", { class: "hint" }, ...trouble(answer, describe))] : []),
    );
    texts.want(null);
    return;
  }
  described = isKnown ? { ...answer, model: asked.model } : { ...described, changed: null };
  if (!isDrawn) root.replaceChildren(...parts);
  if (isKnown) board.show(answer, answer.settings);
  if (answer.error) sentence.replaceChildren(...trouble(answer, describe));
  else sentence.textContent = isChanged() ? answer.sentence : INVITATION;
  showEffects();
}

function showEffects() {
  const changed = isChanged();
  asItWas.disabled = !asked.edits;
  for (const node of [effects, texts.node, keep, write, cost]) node.hidden = !changed;
  bar.classList.toggle("changed", changed);
  float();
  if (!changed) {
    askEffect(null);
    askLoss(null);
    texts.want(null);
    return;
  }
  const { original, changed: name } = described;
  askEffect({ original, changed: name, text: asked.text });
  askLoss({ original, changed: name });
}

function draw() {
  const now = props.value;
  if (!now?.model) return;
  const same = now.model === asked?.model && now.edits === asked?.edits;
  if (same && now.text === asked.text) return;
  asked = now;
  if (same && described) {
    if (isChanged()) askEffect({ original: described.original, changed: described.changed, text: now.text });
    return;
  }
  foresee(now);
  describe();
}

function describe() {
  askDescription({ model: asked.model, edits: asked.edits });
}

// Turns the switches at once, and ends what is shown of the edits before. Those of another model wait until the
// server has told of it.
function foresee({ edits, model }) {
  if (!described) return;
  root.inert = described.model !== model;
  if (!root.inert) board.show(described, { ...described.made, ...Object.fromEntries(surgery.parse(edits)) });
  cost.textContent = "Measuring …";
  texts.want(null);
}

// As long as the panel lies below the window, its bar stays in sight, and what has the focus above it.
let below = false;
function float() {
  bar.classList.toggle("floating", below && isChanged());
  const covers = getComputedStyle(bar).position === "fixed" && bar.checkVisibility();
  document.documentElement.style.scrollPaddingBottom = covers ? `${bar.offsetHeight + 16}px` : "";
}
new IntersectionObserver(
  (entries) => {
    below = !entries.at(-1).isIntersecting;
    float();
  },
  { rootMargin: "1000000px 0px 0px" },
).observe(place);
watch("value", draw);
draw();
