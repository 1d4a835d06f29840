// The learned table, the counted one and their difference, linked: a cell pointed at is marked in all three.
const { el, glyphs, percent, floats, heatMap } = window.charlm;
const root = element.querySelector(".tables_view");

// A difference may be negative.
const signed = (x) => (x <= -0.001 ? `−${percent(-x)}` : percent(x));

function decode({ name, title, values: text }) {
  const values = floats(text);
  const largest = values.reduce((most, x) => Math.max(most, Math.abs(x)), 1e-9);
  return { name, title, values, largest, hasNegative: values.some((x) => x < 0) };
}

// The opacity of a probability is its square root, so that small ones can be seen too.
function shade({ values, largest, hasNegative }, i) {
  const x = values[i] / largest;
  return hasNegative ? x : Math.sqrt(x);
}

// What all tables say of a cell, that of `first` before the others.
function sentence(chars, tables, first, row, column) {
  const i = row * chars.length + column;
  const all = [first, ...tables.filter((table) => table !== first)];
  const numbers = all.map(({ name, values }) => `${signed(values[i])} ${name}`);
  return ["after ", glyphs(chars[row]), " comes ", glyphs(chars[column]), `: ${numbers.join(", ")}`];
}

function draw() {
  const v = props.value;
  if (!v?.tables) return;
  const chars = v.chars;
  const tables = v.tables.map(decode);
  const say = el("p", {
    class: "say",
    role: "status",
    text: "Point at a cell, or move to it with the arrow keys.",
  });
  const show = (table, row, column) => {
    for (const map of maps) map.mark(row, column);
    say.replaceChildren(...sentence(chars, tables, table, row, column));
  };
  const maps = tables.map((table) =>
    heatMap({
      name: table.name,
      title: table.title,
      caption: `full colour: ${percent(table.largest)}`,
      labels: chars,
      axes: { rows: "before", columns: "after" },
      heatAt: (i) => shade(table, i),
      point: (row, column) => show(table, row, column),
    }),
  );
  root.replaceChildren(el("div", { class: "maps" }, ...maps.map((map) => map.figure)), say);
}
watch("value", draw);
draw();
