// One grid: a row for each character, a column for each that may come next. A switch says which table it shows.
const { el, glyphs, count, percent, bytes, floats, colour, scale, heatMap, bigram } = window.charlm;
const root = element.querySelector(".tables_view");
const KINDS = { learned: "Learned", counted: "Counted", difference: "Learned − counted" };
const HINT = "Point at a cell, or move to it with the arrow keys. A click or Enter chooses its row.";
const MAX_LABELS = 66;
const LEGEND = [0, 0.01, 0.05, 0.25, 0.5, 1];
const LEGEND_OF_DIFFERENCE = [-1, -0.25, -0.05, 0, 0.05, 0.25, 1];

let kind = "learned";
let table = null;
let map = null;
let cell = null;
const switches = el("fieldset", { class: "kinds" }, el("legend", { text: "The grid shows" }));
const grid = el("div");
const legend = el("div");
const say = el("p", { class: "say", role: "status", text: HINT });

for (const [name, text] of Object.entries(KINDS)) {
  const radio = el("input", {
    type: "radio",
    name: "bigram-kind",
    value: name,
    checked: name === kind,
    onchange: () => {
      kind = name;
      drawGrid();
    },
  });
  switches.append(el("label", {}, radio, ` ${text}`));
}

function decode(v) {
  const n = v.chars.length;
  const counts = new Float64Array(bytes(v.counts).buffer);
  const learned = floats(v.learned);
  const counted = learned.map((_, i) => counts[i] / Math.max(1, v.seen[Math.floor(i / n)]));
  const difference = learned.map((p, i) => p - counted[i]);
  return { ...v, n, counts, logits: floats(v.logits), learned, counted, difference };
}

// What full colour stands for.
function largest() {
  if (kind !== "difference") return 1;
  return table.difference.reduce((most, x) => Math.max(most, Math.abs(x)), 1e-9);
}

// Opacity is the square root, so that small numbers can be seen too.
const shade = (share) => Math.sign(share) * Math.sqrt(Math.abs(share));

function points(x, digits) {
  const size = (100 * Math.abs(x)).toFixed(digits);
  return `${x < 0 && size > 0 ? "−" : ""}${size}`;
}

function caption() {
  const { zeros, vocab_size, n } = table;
  const some = n < vocab_size ? ` The ${n} commonest of ${count(vocab_size)} characters.` : "";
  const says = {
    learned: "is the softmax of each row of the model's table, at temperature 1.",
    counted: `is each pair of the training split, as a share of its row. ${count(zeros)} of ${count(vocab_size ** 2)} counts are 0.`,
    difference:
      "is indigo where the model expects a character more often than it was counted, orange where less.",
  };
  return says[kind] + some;
}

function key(most) {
  const difference = kind === "difference";
  const entries = (difference ? LEGEND_OF_DIFFERENCE : LEGEND).map((share) => [
    difference ? points(share * most, 1) : percent(share),
    colour(shade(share)),
  ]);
  const node = scale(difference ? "percentage points:" : "", entries);
  node.append(" opacity grows with the square root");
  return node;
}

function drawGrid() {
  const most = largest();
  map = heatMap({
    name: kind,
    title: KINDS[kind],
    caption: caption(),
    labels: table.chars,
    most: MAX_LABELS,
    axes: { rows: "character before", columns: "next character" },
    heatAt: (i) => shade(table[kind][i] / most),
    point,
  });
  const board = map.figure.querySelector(".board");
  board.append(el("div", { class: "chosen-row", hidden: true }));
  board.addEventListener("click", choose);
  board.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    choose();
  });
  grid.replaceChildren(map.figure);
  legend.replaceChildren(key(most));
  outline(bigram.chosen());
  if (cell) point(...cell);
}

function point(row, column) {
  cell = [row, column];
  map.mark(row, column);
  say.replaceChildren(...sentence(row, column));
}

function sentence(row, column) {
  const { chars, n, logits, learned, counts, counted, difference, log_sums, seen } = table;
  const i = row * n + column;
  const softmax = `learned ${bigram.softmax(logits[i], 1, log_sums[row])} = ${percent(learned[i])}`;
  const share = seen[row]
    ? `counted ${count(counts[i])} of ${count(seen[row])} = ${percent(counted[i])}`
    : "never counted before another character";
  const less = seen[row] ? `; difference ${points(difference[i], 2)} points` : "";
  return [glyphs(chars[row]), " is followed by ", glyphs(chars[column]), `: ${softmax}; ${share}${less}.`];
}

// The cell's row becomes the one whose bars are shown.
function choose() {
  if (!cell) return;
  bigram.choose(table.chars[cell[0]]);
  trigger("select");
}

function outline(char) {
  const line = grid.querySelector(".chosen-row");
  if (!line) return;
  const row = table.chars.indexOf(char);
  line.hidden = row < 0;
  line.style.top = `${(100 * row) / table.n}%`;
  line.style.height = `${100 / table.n}%`;
}

function draw() {
  cell = null;
  table = props.value?.chars ? decode(props.value) : null;
  if (!table) {
    root.replaceChildren();
    return;
  }
  say.textContent = HINT;
  drawGrid();
  root.replaceChildren(el("h2", { text: "The table" }), switches, say, grid, legend);
}

bigram.on("chosen", outline);
bigram.on("pointed", ([before, next]) => {
  const [row, column] = [before, next].map((char) => table?.chars.indexOf(char) ?? -1);
  if (row >= 0 && column >= 0) point(row, column);
});
watch("value", draw);
draw();
