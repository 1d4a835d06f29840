// What follows a character: the learned probability as a bar, the counted frequency as a mark.
const { el, visible, percent } = window.charlm;
const root = element.querySelector(".bigram_view");
const SHOWN = 12;

function draw() {
  const rows = props.value ?? [];
  if (!rows.length) return;
  const shown = rows.slice(0, SHOWN);
  const rest = rows.slice(SHOWN).reduce((sum, r) => sum + r.prob, 0);
  root.replaceChildren(
    el("p", {}, el("span", { class: "swatch bar-colour" }), " learned, at this temperature ", el("span", { class: "swatch mark-colour" }), " counted"),
    ...shown.map((r) => el("div", { class: "bar-row", title: `counted ${percent(r.counted)}` },
      el("span", { class: "bar-label", text: visible(r.char) }),
      el("span", { class: "bar-track" }, el("span", { class: "bar", style: `width:${100 * r.prob}%` }),
        el("span", { class: "mark", style: `left:${100 * r.counted}%` })),
      el("span", { class: "bar-value", text: percent(r.prob) }))),
    el("div", { class: "bar-row rest" }, el("span", { class: "bar-label", text: `${rows.length - shown.length} more` }),
      el("span", { class: "bar-track" }, el("span", { class: "bar", style: `width:${100 * rest}%` })),
      el("span", { class: "bar-value", text: percent(rest) })));
}
watch("value", draw);
draw();
