// The neurons of one block's MLP at the chosen character: the most active ones, what each pushes, and what
// becomes of the guess when one is switched off or held at a value.
const { el, glyphs, bar, count, percent, walk, asker, distributions, surgery } = window.charlm;
const root = element.querySelector(".neurons_view");
const MOST_HELD = 1000;

let block = null; // The one that is open,
let neuron = null; // the neuron that is chosen: null for the most active one,
let held = null; // at which value it is held,
let shown = null; // and what the server told of it.
let drawnModel = null; // The one on the screen.

const heading = el("h2", { text: "Neurons" });
const lead = el("p", {
  class: "hint",
  text: "A block's MLP is made of small detectors, its neurons. Each looks for one thing in the row of the chosen character. The more it finds, the larger its value, and the harder it pushes some next characters up and others down. Which are awake here, and does the guess need them? It shows best after a character where the model is not sure.",
});
const blocks = el("div", { class: "blocks", role: "group", "aria-label": "Block" });
const awake = el("p", { class: "awake", role: "status" });
const list = el("div", { class: "list", role: "listbox", "aria-label": "The most active neurons" });
const say = el("p", { class: "say", role: "status" });
const formula = el("p", { class: "hint" });
const tellFormula = (squared) =>
  `Value: ${squared ? "ReLU²" : "ReLU"} of the neuron's row of up times the normalised row of the character. Push: the last scores less those without value times the neuron's column of down, so its direct effect, as if no later block read it; less their mean, as softmax sees only differences.`;
const number = el("input", { type: "number", min: 1, step: 1, "aria-label": "Neuron", onchange: take });
const off = el("button", { type: "button", onclick: toggle });
const slider = el("input", { type: "range", min: 0, step: "any", "aria-label": "Held at", oninput: hold });
const value = el("input", {
  type: "number",
  min: 0,
  max: MOST_HELD,
  step: "any",
  "aria-label": "Held at, as a number",
  onchange: hold,
});
const release = el("button", { type: "button", text: "Release", onclick: letGo });
const holding = el("div", { class: "holding" }, el("span", { text: "Hold at" }), slider, value, release);
const of = el("span");
const effect = el("p", { class: "effect", role: "status" });
const chart = el("div");
const chosen = el(
  "section",
  {},
  el("div", { class: "which" }, el("b", { text: "Neuron" }), number, of, off),
  holding,
  effect,
  chart,
);
const columns = el("div", { class: "columns answer" }, el("section", {}, awake, list, say, formula), chosen);

// What stands there until the server has told of the neurons, or if it cannot.
const problem = el("p", { class: "hint", role: "status" });

const signed = (x) => `${x < 0 ? "−" : "+"}${Math.abs(x).toFixed(2)}`;
const partOf = (n) => `${block}.mlp.${n}`;

function push({ char, by }) {
  return el("span", { class: by < 0 ? "down" : "up" }, glyphs(char), `\u00a0${signed(by)}`);
}

const isSwitchedOff = (n) => shown.mlp_off || shown.off.includes(n);

function row(entry, most) {
  const isOff = isSwitchedOff(entry.neuron);
  const kind = isOff ? "cut" : entry.neuron === shown.chosen.neuron ? "chosen" : "";
  const node = bar({
    label: count(entry.neuron),
    share: entry.value / most,
    value: entry.value.toFixed(2),
    kind,
    role: "option",
    "aria-selected": `${entry.neuron === shown.chosen.neuron}`,
    "data-neuron": entry.neuron,
    tabindex: -1,
  });
  const pushes = isOff ? ["off"] : [push(entry.up[0]), push(entry.down[0])];
  node.append(el("span", { class: "pushes" }, ...pushes));
  return node;
}

function listed(pushes) {
  return pushes.flatMap((p, k) => [k ? ", " : "", push(p)]);
}

// The sentence on a neuron.
function point(_, i) {
  const entry = shown?.most[i];
  if (entry) tellNeuron(entry);
}

function tellNeuron({ neuron, value, up, down }) {
  const { squared } = props.value;
  const found = (squared ? Math.sqrt(value) : value).toFixed(2);
  if (!value) {
    say.textContent = `Neuron ${neuron} found nothing here: ReLU${squared ? "²" : ""} makes its value 0, and it pushes nothing.`;
    return;
  }
  if (isSwitchedOff(neuron)) {
    say.textContent = `Neuron ${neuron} found ${found} here; it is switched off, so it pushes nothing.`;
    return;
  }
  say.replaceChildren(
    `Neuron ${neuron} found ${found} here${squared ? `; squared, ${value.toFixed(2)}` : ""}. By itself it pushes up `,
    ...listed(up),
    " and down ",
    ...listed(down),
    ".",
  );
}

const ask = asker(root, (asked) => server.neurons_of(asked), tell);

function again() {
  const { model, edits, text, behind } = props.value;
  ask({ model, edits, text, behind, layer: block, neuron, held });
}

function tell(answer, asked) {
  if (!props.value?.layers) return;
  problem.textContent = answer.error ?? "";
  columns.hidden = Boolean(answer.error);
  if (answer.error) return;
  shown = answer;
  drawList(asked);
  drawChosen();
}

function drawList({ layer }) {
  const focused = list.contains(document.activeElement) ? document.activeElement.dataset.neuron : null;
  awake.textContent = `Block ${layer}: ${count(shown.awake)} of ${count(shown.count)} neurons are awake at the chosen character; these are the most active.${shown.mlp_off ? " The MLP is switched off: none of them pushes anything." : ""}`;
  list.replaceChildren(...shown.most.map((entry) => row(entry, shown.most[0].value || 1)));
  const rows = [...list.children];
  const found = rows.findIndex((r) => r.dataset.neuron === (focused ?? `${shown.chosen.neuron}`));
  const at = Math.max(0, found);
  steps.begin(at);
  if (focused !== null) rows[at].focus({ preventScroll: true });
  tellNeuron(focused === null ? shown.chosen : shown.most[at]);
}

function drawChosen() {
  const { neuron: n, value: learned } = shown.chosen;
  const isOff = shown.off.includes(n);
  if (number !== document.activeElement) number.value = n;
  number.max = shown.count;
  of.textContent = `of ${count(shown.count)} in block ${block}`;
  off.textContent = isOff ? "Switch on" : "Switch off";
  off.setAttribute("aria-label", `${off.textContent}: neuron ${n} of block ${block}`);
  holding.hidden = isOff;
  release.hidden = held === null;
  slider.max = Math.max(1, Math.ceil(2 * shown.most[0].value), held ?? 0);
  slider.value = held ?? learned;
  if (value !== document.activeElement) value.value = (held ?? learned).toFixed(2);
  drawEffect(n, isOff, learned);
}

function drawEffect(n, isOff, learned) {
  const best = (i) => shown.bars.reduce((a, b) => (b.ps[i] > a.ps[i] ? b : a));
  const guess = (i) => [el("b", {}, glyphs(best(i).char)), ` ${percent(best(i).ps[i])}`];
  const series = [[`value ${learned.toFixed(2)}, as learned`, "before"]];
  if (isOff) series.push(["off, in the weights", "after"]);
  else if (held !== null) series.push([`held at ${held}`, "after"]);
  chart.replaceChildren(distributions(series, shown.bars));
  if (series.length === 1) {
    effect.replaceChildren(
      "The guess is ",
      ...guess(0),
      ". Switch the neuron off, or hold it at another value.",
    );
    return;
  }
  const how = isOff
    ? `Without neuron ${n}, switched off in the weights,`
    : `With neuron ${n} held at ${held} for every character, in this view only,`;
  effect.replaceChildren(`${how} the guess is `, ...guess(1), "; before, ", ...guess(0), ".");
}

function choose(n) {
  [neuron, held] = [n, null];
  again();
}

function take() {
  const n = Math.min(shown?.count ?? 1, Math.max(1, Math.round(number.valueAsNumber)));
  if (Number.isNaN(n)) return;
  number.value = n;
  choose(n);
}

function hold({ target }) {
  const x = Math.min(MOST_HELD, Math.max(0, target.valueAsNumber));
  if (Number.isNaN(x) || !shown) return;
  [neuron, held] = [shown.chosen.neuron, Math.round(100 * x) / 100];
  again();
}

function letGo() {
  held = null;
  slider.focus();
  again();
}

// Switches the neuron off in the weights, or on again: an edit of the model.
function toggle() {
  if (!shown) return;
  const n = shown.chosen.neuron;
  [neuron, held] = [n, null];
  surgery.want({ [partOf(n)]: shown.off.includes(n) ? "on" : "off" }, props.value.made);
  trigger("select");
}

function drawBlocks(n) {
  const focused = blocks.contains(document.activeElement);
  const button = (i) =>
    el("button", {
      type: "button",
      text: i + 1,
      "aria-label": `Block ${i + 1}`,
      "aria-pressed": `${i + 1 === block}`,
      onclick: () => {
        [block, neuron, held] = [i + 1, null, null];
        drawBlocks(n);
        again();
      },
    });
  blocks.replaceChildren(el("span", { text: "Block" }), ...Array.from({ length: n }, (_, i) => button(i)));
  if (focused) blocks.children[block].focus();
}

function draw() {
  const v = props.value;
  if (!v?.layers) {
    shown = null;
    root.replaceChildren(...(v?.why ? [heading, el("p", { class: "hint", text: v.why })] : []));
    return;
  }
  if (v.model !== drawnModel) [neuron, held] = [null, null];
  drawnModel = v.model;
  if (!(block <= v.layers) || block === null) [block, neuron, held] = [v.layers, null, null];
  formula.textContent = tellFormula(v.squared);
  drawBlocks(v.layers);
  if (!columns.isConnected) {
    problem.textContent = "Reading the neurons …";
    columns.hidden = true;
    root.replaceChildren(heading, lead, blocks, problem, columns);
  }
  again();
}

const steps = walk(list, ".bar-row", point);
list.addEventListener("click", ({ target }) => {
  const item = target.closest(".bar-row");
  if (item) choose(+item.dataset.neuron);
});
list.addEventListener("keydown", (event) => {
  const item = event.target.closest(".bar-row");
  if (!item || (event.key !== "Enter" && event.key !== " ")) return;
  event.preventDefault();
  choose(+item.dataset.neuron);
});
watch("value", draw);
draw();
