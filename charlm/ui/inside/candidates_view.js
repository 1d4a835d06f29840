// The next characters, the likeliest first: what temperature makes of them, what is cut off and what remains.
const { el, glyphs, percent, bars } = window.charlm;
const root = element.querySelector(".candidates_view");
const SHOWN = 20;

function row({ char, before, after }) {
  if (after) return { label: glyphs(char), share: after };
  return { label: glyphs(char), share: before, kind: "cut", title: `cut off: had ${percent(before)}` };
}

function draw() {
  const rows = props.value ?? [];
  if (!rows.length) return;
  const kept = rows.filter((r) => r.after > 0).length;
  const rest = rows.slice(SHOWN).reduce((sum, r) => sum + r.after, 0);
  root.replaceChildren(
    el("p", { class: "kept", text: `${kept} of ${rows.length} characters can be drawn.` }),
    ...bars(rows.slice(0, SHOWN).map(row), rows.length - SHOWN, rest),
  );
}
watch("value", draw);
draw();
