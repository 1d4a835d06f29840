// The configured model from bottom of the page to the next character, with the guess after each layer.
const { el, glyphs, ending, count, percent, heat } = window.charlm;
const root = element.querySelector(".network_view");

function chip([char, p]) {
  return el(
    "span",
    { class: "chip", title: percent(p), style: `background: ${heat(p)}` },
    el("b", {}, glyphs(char)),
    el("i", { text: percent(p) }),
  );
}

function box({ name, does, shape, parameters, guesses }) {
  const node = el(
    "div",
    { class: "part", "data-part": name },
    el("div", { class: "part-head" }, el("b", { text: name }), el("span", { text: does })),
    el(
      "div",
      { class: "part-facts" },
      el("code", { text: `(${shape.join(", ")})` }),
      el("span", { text: parameters ? `${count(parameters)} parameters` : "" }),
    ),
  );
  if (guesses.length) node.append(el("div", { class: "guess" }, ...guesses.map(chip)));
  return node;
}

function draw() {
  const v = props.value;
  if (!v?.parts) return;
  root.replaceChildren(
    el("h3", { text: `${count(v.total)} parameters, shapes (B, T, C)` }),
    el("p", {}, "After ", el("code", {}, glyphs(ending(v.read))), " the guess is …"),
    ...v.parts.map(box),
  );
}
watch("value", draw);
draw();
