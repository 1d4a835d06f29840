// What follows a character: the learned probability as a bar, the counted frequency as a mark.
const { el, glyphs, percent, bars } = window.charlm;
const root = element.querySelector(".bigram_view");
const SHOWN = 12;

function row({ char, prob, counted }) {
  return { label: glyphs(char), share: prob, mark: counted, title: `counted ${percent(counted)}` };
}

function draw() {
  const rows = props.value ?? [];
  if (!rows.length) return;
  const rest = rows.slice(SHOWN).reduce((sum, r) => sum + r.prob, 0);
  root.replaceChildren(
    el(
      "p",
      {},
      el("span", { class: "swatch learned" }),
      " learned, at this temperature ",
      el("span", { class: "swatch counted" }),
      " counted",
    ),
    ...bars(rows.slice(0, SHOWN).map(row), rows.length - SHOWN, rest),
  );
}
watch("value", draw);
draw();
