// The next characters, the likeliest first: what temperature makes of them, what is cut off and what remains.
const { el, visible, percent } = window.charlm;
const root = element.querySelector(".candidates_view");
const SHOWN = 20;

function draw() {
  const rows = props.value ?? [];
  if (!rows.length) return;
  const kept = rows.filter((r) => r.after > 0).length;
  const shown = rows.slice(0, SHOWN);
  const rest = rows.slice(SHOWN).reduce((sum, r) => sum + r.after, 0);
  root.replaceChildren(
    el("p", { class: "kept", text: `${kept} of ${rows.length} characters can be drawn.` }),
    ...shown.map((r) => el("div", { class: `bar-row ${r.after ? "" : "cut"}`, title: r.after ? "" : `cut off: had ${percent(r.before)}` },
      el("span", { class: "bar-label", text: visible(r.char) }),
      el("span", { class: "bar-track" }, el("span", { class: "bar", style: `width:${100 * (r.after || r.before)}%` })),
      el("span", { class: "bar-value", text: percent(r.after || r.before) }))),
    ...(rows.length > SHOWN ? [el("div", { class: "bar-row rest" }, el("span", { class: "bar-label", text: `${rows.length - SHOWN} more` }),
      el("span", { class: "bar-track" }, el("span", { class: "bar", style: `width:${100 * rest}%` })),
      el("span", { class: "bar-value", text: percent(rest) }))] : []));
}
watch("value", draw);
draw();
