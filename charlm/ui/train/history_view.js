// Every evaluation of a run: the sample it wrote then, and how its heads looked at a fixed sentence.
const { el, visible, rgb, paint, bytes } = window.charlm;
const root = element.querySelector(".history_view");
const slider = el("input", { type: "range", min: 0, value: 0, "aria-label": "Evaluation" });
const label = el("p");
const sample = el("pre", { class: "page" });
const heads = el("div", { class: "heads" });
const panel = el("div", {}, el("h3", { text: "As it learns" }), slider, label, sample, heads);
let shown = null;

function show(i) {
  const e = props.value.evaluations[i];
  label.textContent = `After ${e.step.toLocaleString("en")} steps: train ${e.train_loss.toFixed(3)}, validation ${e.val_loss.toFixed(3)} nats per character. It writes:`;
  sample.textContent = e.sample;
  heads.replaceChildren();
  if (!e.attention) return;
  const [layers, n, T] = e.attention.shape;
  const data = bytes(e.attention.bytes);
  const { positive } = rgb(root);
  heads.append(el("p", {}, "How each head looks at ", el("code", { text: [...e.watched].map(visible).join("") })));
  for (let l = 0; l < layers; l++) {
    const row = el("div", { class: "tile-row" });
    for (let h = 0; h < n; h++) {
      const canvas = el("canvas", { title: `layer ${l + 1}, head ${h + 1}` });
      paint(canvas, T, (k) => Math.sqrt(data[(l * n + h) * T * T + k] / 255), () => positive);
      row.append(canvas);
    }
    heads.append(row);
  }
}

function draw() {
  const v = props.value;
  if (!v?.evaluations?.length) return root.replaceChildren();
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
