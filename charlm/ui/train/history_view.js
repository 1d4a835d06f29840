// Every evaluation of a run: its losses on a curve, the sample it wrote then in a strip, and how its heads looked
// at a fixed sentence. The one that is chosen is marked in all of them.
const { el, glyphs, count, many, bytes, thumbnail, walk, lossCurve } = window.charlm;
const root = element.querySelector(".history_view");
const legend = el("p", { class: "legend" });
const curve = el("div", { class: "curve-box" });
const label = el("p", { class: "say", role: "status" });
const strip = el("div", {
  class: "strip",
  role: "listbox",
  "aria-label": "What it wrote at each evaluation",
});
const sample = el("pre", { class: "page", translate: "no" });
const heads = el("div", { class: "heads" });
const play = player();
const said = el("div");
const panel = el(
  "div",
  {},
  el("h2", { text: "As it learns" }),
  legend,
  curve,
  label,
  el("h3", { text: "What it writes" }),
  strip,
  play.node,
  sample,
  heads,
  said,
);
let run = null;
let chosen = 0; // The evaluation that was clicked or reached by a key: the newest, until one is.
let mark = () => {};
let playing = null; // Which step another tab is to play: { tab, model, seed }.

function drawLegend({ crossing }) {
  const entry = (kind, text) => el("span", {}, el("span", { class: `key ${kind}` }), ` ${text}`);
  legend.replaceChildren(
    entry("train", "training loss"),
    entry("val", "validation loss"),
    entry("baseline", "what needs no training"),
    ...(crossing === null ? [] : [entry("crossing", "better than the counted bigram from here on")]),
  );
}

// e^loss: among how many characters, all alike, one would be as unsure.
function tell(i) {
  const { step, train_loss, val_loss } = run.evaluations[i];
  return (
    `After ${many(step, "step")}: training loss ${train_loss.toFixed(3)}, validation loss ${val_loss.toFixed(3)}` +
    ` nats per character. That is as unsure as among e^${val_loss.toFixed(3)} = ${Math.exp(val_loss).toFixed(1)}` +
    " characters, all alike."
  );
}

function show(i) {
  const { sample: text, attention, watched } = run.evaluations[i];
  label.textContent = tell(i);
  sample.textContent = text;
  heads.replaceChildren(...(attention ? drawHeads(attention, watched) : []));
  for (const [j, frame] of [...strip.children].entries()) frame.setAttribute("aria-selected", i === j);
  mark(i);
}

function choose(i) {
  chosen = i;
  frames.begin(i);
  play.offer(run.evaluations[i]);
  show(i);
}

// The ways to the tabs that can play the model of the evaluation that is chosen, if it is kept.
function player() {
  const told = el("span");
  const way = (text, tab) =>
    el("button", {
      type: "button",
      text,
      onclick: () => {
        playing = { tab, model: run.evaluations[chosen].model, seed: `${run.seed}` };
        trigger("apply");
      },
    });
  const look = way("Look at its attention →", "attention");
  const ways = el(
    "span",
    { class: "ways" },
    way("Write with it →", "generate"),
    look,
    way("Look inside →", "inside"),
  );
  const node = el("div", { class: "play", role: "group" }, told, ways);
  function offer({ step, model, attention }) {
    const which = `The model at step ${count(step)}`;
    node.setAttribute("aria-label", which);
    told.textContent = model ? `${which}:` : `${which} is not kept: there is no room for all.`;
    ways.hidden = !model;
    look.hidden = !attention;
  }
  return { node, offer };
}

function frame({ step, val_loss, sample: text }) {
  return el(
    "div",
    { class: "frame", role: "option", tabindex: -1 },
    el("b", { text: `step ${count(step)}` }),
    " ",
    el("span", { class: "loss", text: val_loss.toFixed(2) }),
    " ",
    el("span", { class: "bit" }, glyphs([...text].slice(0, 48).join(""))),
  );
}

function drawHeads(attention, watched) {
  const [n_layer, n_head, T] = attention.shape;
  const weights = bytes(attention.bytes);
  const head = (layer, h) => {
    const start = (layer * n_head + h) * T * T;
    return thumbnail(T, weights.subarray(start, start + T * T), {
      role: "img",
      "aria-label": `layer ${layer + 1}, head ${h + 1}`,
    });
  };
  const row = (_, layer) =>
    el(
      "div",
      { class: "layer" },
      el("span", { text: `layer ${layer + 1}` }),
      ...Array.from({ length: n_head }, (_, h) => head(layer, h)),
    );
  return [
    el("p", {}, "How each head, from 1 on from the left, looks at ", el("code", {}, glyphs(watched))),
    ...Array.from({ length: n_layer }, row),
  ];
}

function drawCurve() {
  if (!run || !curve.clientWidth) return;
  const focused = curve.contains(document.activeElement);
  const drawn = lossCurve(run, curve.clientWidth, tell, show);
  curve.replaceChildren(drawn.picture);
  mark = drawn.mark;
  mark(chosen);
  if (focused) drawn.picture.querySelectorAll(".column")[chosen].focus({ preventScroll: true });
}

function draw() {
  const v = props.value;
  if (!v?.evaluations?.length) {
    run = null;
    root.replaceChildren();
    return;
  }
  const other = v.id !== run?.id;
  const follow = other || chosen === run.evaluations.length - 1;
  run = v;
  if (other) strip.replaceChildren();
  strip.append(...v.evaluations.slice(strip.children.length).map(frame));
  said.replaceChildren(...v.said.map((text) => el("p", { class: "hint", text })));
  drawLegend(v);
  if (!panel.isConnected) root.replaceChildren(panel);
  if (follow) chosen = v.evaluations.length - 1;
  drawCurve();
  choose(chosen);
  if (follow) strip.scrollLeft = strip.scrollWidth;
}

const frames = walk(strip, ".frame", (_, i) => show(i));
for (const box of [strip, curve]) {
  const pin = ({ target }) => {
    const item = target.closest(".frame, .column");
    if (item) choose([...item.parentNode.querySelectorAll(".frame, .column")].indexOf(item));
  };
  box.addEventListener("focusin", pin);
  box.addEventListener("click", pin);
  box.addEventListener("pointerleave", () => run && show(chosen));
}
new ResizeObserver(drawCurve).observe(curve);
window.charlm.learning = { playing: () => playing };
watch("value", draw);
draw();
