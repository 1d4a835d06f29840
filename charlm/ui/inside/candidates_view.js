// The next characters, the likeliest first: what temperature makes of them, what is cut off and what remains.
const { el, glyphs, percent, bar, walk } = window.charlm;
const root = element.querySelector(".candidates_view");
const SHOWN = 20;

const kept = el("p", { class: "kept" });
const list = el("div", { class: "list", role: "listbox", "aria-label": "The next character" });
const say = el("p", { class: "say", role: "status" });

function row({ char, before, after }) {
  const shares = after ? { share: after } : { share: before, kind: "cut" };
  return bar({ label: glyphs(char), ...shares, role: "option", "aria-selected": "false", tabindex: -1 });
}

// What is left over of all that remains, for the sentence on what stays.
const remaining = (rows) => rows.reduce((sum, r) => sum + (r.after > 0 ? r.before : 0), 0);

function point(node, i) {
  const rows = props.value;
  for (const other of list.children) other.setAttribute("aria-selected", other === node);
  const { char, before, after } = rows[i] ?? {};
  if (char === undefined) return;
  const left = remaining(rows);
  const words = after
    ? `${percent(before)} at this temperature, divided by the ${percent(left)} that remain: ${percent(after)}.`
    : `${percent(before)} at this temperature, and cut off: it cannot be drawn.`;
  say.replaceChildren(glyphs(char), `: ${words}`);
}

function draw() {
  const rows = props.value ?? [];
  if (!rows.length) {
    root.replaceChildren();
    return;
  }
  const drawable = rows.filter((r) => r.after > 0).length;
  const rest = rows.slice(SHOWN).reduce((sum, r) => sum + r.after, 0);
  kept.textContent = `${drawable} of ${rows.length} characters can be drawn.`;
  list.replaceChildren(...rows.slice(0, SHOWN).map(row));
  const more = rows.length - SHOWN;
  const others = more > 0 ? [bar({ label: `${more} more`, share: rest, kind: "rest" })] : [];
  say.textContent = "Point at a character: here is said what remains of its probability.";
  root.replaceChildren(kept, list, ...others, say);
  bars.begin(0);
}

const bars = walk(list, ".bar-row", point);
watch("value", draw);
draw();
