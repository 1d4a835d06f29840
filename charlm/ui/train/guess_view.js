// Before a run: which will end lower, this one or one that was there before?
const { el, runs, badges } = window.charlm;
const root = element.querySelector(".guess_view");
let drawn = "";

function choice(id, ...label) {
  const input = el("input", { type: "radio", name: "guess", value: id, onchange: () => choose(id) });
  return el("label", {}, input, ...label);
}

function choose(id) {
  runs.guess(id);
  trigger("select");
}

function draw() {
  const rivals = props.value?.rivals ?? [];
  const shape = JSON.stringify(rivals);
  if (shape === drawn) return;
  drawn = shape;
  runs.guess("");
  if (!rivals.length) {
    root.replaceChildren();
    return;
  }
  root.replaceChildren(
    el(
      "fieldset",
      {},
      el("legend", { text: "Before you train: which will end lower?" }),
      choice("this", "this one"),
      ...rivals.map(({ id, number, name, loss }) =>
        choice(
          id,
          badges.badge(number),
          el("bdi", { text: name }),
          loss === null ? "" : el("span", { class: "hint", text: loss.toFixed(2) }),
        ),
      ),
    ),
  );
}
watch("value", draw);
draw();
