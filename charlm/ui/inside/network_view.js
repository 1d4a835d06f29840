// The configured model from bottom of the page to the next character, with the guess after each layer.
const { el, visible, percent, heat } = window.charlm;
const root = element.querySelector(".network_view");

function guess(chars) {
  return el("div", { class: "guess" }, ...chars.map(([c, p]) => {
    const chip = el("span", { class: "chip", title: percent(p) }, el("b", { text: visible(c) }), el("i", { text: percent(p) }));
    chip.style.background = heat(p);
    return chip;
  }));
}

function draw() {
  const v = props.value;
  if (!v?.parts) return;
  const boxes = v.parts.map((part) => {
    const box = el("div", { class: "part", "data-part": part.name },
      el("div", { class: "part-head" }, el("b", { text: part.name }), el("span", { text: part.does })),
      el("div", { class: "part-facts" }, el("code", { text: `(${part.shape.join(", ")})` }),
        el("span", { text: part.parameters ? `${part.parameters.toLocaleString("en")} parameters` : "" })));
    if (part.guesses.length) box.append(guess(part.guesses));
    return box;
  });
  root.replaceChildren(
    el("h3", { text: `${v.total.toLocaleString("en")} parameters, shapes (B, T, C)` }),
    el("p", {}, "After ", el("code", { text: [...v.read.slice(-24)].map(visible).join("") }), " the guess is …"),
    ...boxes);
}
watch("value", draw);
draw();
