// Before a run: which will end lower, this one or one that was there before?
const { el, runs, badges } = window.charlm;
const root = element.querySelector(".guess_view");
let drawn = "";
let known = ""; // The ids of the rivals: a guess holds among these alone.

function choice(id, ...label) {
  const input = el("input", { type: "radio", name: "guess", value: id, onchange: () => choose(id) });
  input.checked = runs.guessed() === id;
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
  const ids = rivals.map(({ id }) => id).join(" ");
  if (ids !== known && runs.guessed()) choose("");
  known = ids;
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
