// Three losses on one scale, from knowing nothing to having counted.
const { el, bar } = window.charlm;
const root = element.querySelector(".losses_view");
const NAMES = {
  uniform: "Uniform guess, ln(vocab_size)",
  learned: "The trained table",
  counted: "The counted table, the best there is",
};

function draw() {
  const v = props.value;
  if (!v) return;
  const row = ([key, label]) =>
    bar({ label, share: v[key] / v.uniform, value: v[key].toFixed(3), "data-loss": key });
  root.replaceChildren(
    el("h3", { text: "Validation loss, nats per character" }),
    ...Object.entries(NAMES).map(row),
  );
}
watch("value", draw);
draw();
