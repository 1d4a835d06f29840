// Every evaluation of a run: the sample it wrote then, and how its heads looked at a fixed sentence.
const { el, glyphs, count, bytes, thumbnail } = window.charlm;
const root = element.querySelector(".history_view");
const slider = el("input", { type: "range", min: 0, value: 0, "aria-label": "Evaluation" });
const label = el("p");
const sample = el("pre", { class: "page", translate: "no" });
const heads = el("div", { class: "heads" });
const panel = el("div", {}, el("h3", { text: "As it learns" }), slider, label, sample, heads);
let shown = null;

function show(i) {
  const { step, train_loss, val_loss, sample: text, attention, watched } = props.value.evaluations[i];
  const losses = `train ${train_loss.toFixed(3)}, validation ${val_loss.toFixed(3)} nats per character`;
  label.textContent = `After ${count(step)} steps: ${losses}. It writes:`;
  sample.textContent = text;
  heads.replaceChildren(...(attention ? drawHeads(attention, watched) : []));
}

function drawHeads(attention, watched) {
  const [n_layer, n_head, T] = attention.shape;
  const weights = bytes(attention.bytes);
  const head = (layer, h) => {
    const start = (layer * n_head + h) * T * T;
    return thumbnail(T, weights.subarray(start, start + T * T), {
      title: `layer ${layer + 1}, head ${h + 1}`,
    });
  };
  const row = (_, layer) =>
    el("div", { class: "layer" }, ...Array.from({ length: n_head }, (_, h) => head(layer, h)));
  return [
    el("p", {}, "How each head looks at ", el("code", {}, glyphs(watched))),
    ...Array.from({ length: n_layer }, row),
  ];
}

function draw() {
  const v = props.value;
  if (!v?.evaluations?.length) {
    root.replaceChildren();
    return;
  }
  const last = v.evaluations.length - 1;
  const follow = v.id !== shown || +slider.value >= +slider.max;
  shown = v.id;
  slider.max = last;
  if (follow) slider.value = last;
  if (!panel.isConnected) root.replaceChildren(panel);
  show(+slider.value);
}
slider.addEventListener("input", () => show(+slider.value));
watch("value", draw);
draw();
