// Three losses on one scale, from knowing nothing to having counted.
const { el } = window.charlm;
const root = element.querySelector(".losses_view");
const NAMES = { uniform: "Uniform guess, ln(vocab_size)", learned: "The trained table", counted: "The counted table, the best there is" };

function draw() {
  const v = props.value;
  if (!v) return;
  root.replaceChildren(
    el("h3", { text: "Validation loss, nats per character" }),
    ...Object.entries(NAMES).map(([key, name]) =>
      el("div", { class: "bar-row wide", "data-loss": key }, el("span", { class: "bar-label", text: name }),
        el("span", { class: "bar-track" }, el("span", { class: "bar", style: `width:${(100 * v[key]) / v.uniform}%` })),
        el("span", { class: "bar-value", text: v[key].toFixed(3) }))));
}
watch("value", draw);
draw();
