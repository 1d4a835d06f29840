// Matrices as grids of numbers. Pointing at a cell of the product lights up the row and the column that made
// it.
const { el, heat } = window.charlm;
const root = element.querySelector(".averaging_view");

function number(x) {
  if (x === null) return "−∞";
  return (Number.isInteger(x) ? String(x) : x.toFixed(2)).replace("-", "−");
}

function cell(x, r, c, largest) {
  const place = { "data-r": r, "data-c": c, text: number(x) };
  if (x === null) return el("td", { ...place, class: "masked", title: "minus infinity" });
  return el("td", { ...place, title: x.toFixed(6), style: `--heat: ${heat(x / largest)}` });
}

function matrix(name, caption, rows) {
  const largest = Math.max(...rows.flat().map((x) => Math.abs(x ?? 0)), 1e-9);
  const shape = el("small", { text: ` (${rows.length}, ${rows[0].length})` });
  return el(
    "figure",
    {},
    el("figcaption", {}, el("b", { text: name }), ` ${caption}`, shape),
    el(
      "table",
      { class: "matrix", "data-matrix": name },
      ...rows.map((row, r) => el("tr", {}, ...row.map((x, c) => cell(x, r, c, largest)))),
    ),
  );
}

const sign = (text) => el("span", { class: "operator", text });
const equation = (...parts) => el("div", { class: "equation" }, ...parts);

// Where the weights come from.
function weighing({ version, matrices: m }) {
  if (version === 1) return [];
  const steps = [matrix("tril", "who may look at whom", m.tril), sign("→")];
  if (m.scores) {
    const caption = version === 4 ? "q·k/√d, the future masked" : "all equal, the future masked";
    steps.push(matrix("scores", caption, m.scores), sign("→"));
  }
  steps.push(matrix("weights", m.scores ? "softmax of each row" : "each row divided by its sum", m.wei));
  return version === 4 ? [projections(m), equation(...steps)] : [equation(...steps)];
}

function projections(m) {
  return equation(
    matrix("x", "the positions", m.x),
    sign("→"),
    matrix("q", "what I look for", m.q),
    matrix("k", "what I have", m.k),
    matrix("v", "what I tell", m.v),
  );
}

// What is made with them, and the sentence on the cell that is pointed at.
function product(v) {
  const m = v.matrices;
  const source = matrix(v.source, v.source === "v" ? "values" : "the positions", m[v.source]);
  const factors =
    v.version === 1 ? [source, sign("→")] : [matrix("wei", "weights", m.wei), sign("@"), source, sign("=")];
  const shown = equation(...factors, matrix("out", "what each position gets", m.out));
  const say = el("p", { class: "say", role: "status", text: "Point at a cell of out." });
  for (const node of shown.querySelectorAll('[data-matrix="out"] td')) {
    const [r, c] = [+node.dataset.r, +node.dataset.c];
    const explain = () => {
      light(shown, v, r, c);
      say.textContent = `out[${r}, ${c}] = ${terms(v, r, c)} = ${number(m.out[r][c])}`;
    };
    node.tabIndex = 0;
    for (const event of ["pointerenter", "focus", "click"]) node.addEventListener(event, explain);
  }
  return [shown, say];
}

// Marks the cell of `out` in row r and column c, and all that it is made of.
function light(shown, { version, source }, r, c) {
  for (const node of shown.querySelectorAll("td")) {
    const name = node.closest("table").dataset.matrix;
    const [row, column] = [+node.dataset.r, +node.dataset.c];
    const used = column === c && (version > 1 || row <= r);
    node.classList.toggle("target", name === "out" && row === r && column === c);
    node.classList.toggle("lit", (name === "wei" && row === r) || (name === source && used));
  }
}

function terms({ version, source, matrices: m }, r, c) {
  const values = m[source].map((row) => number(row[c]));
  if (version === 1) return `(${values.slice(0, r + 1).join(" + ")}) / ${r + 1}`;
  return m.wei[r].map((weight, t) => `${number(weight)} · ${values[t]}`).join(" + ");
}

// The first three versions give the same.
function comparison({ three, differences }) {
  const ways = ["loop", "tril", "softmax"];
  const small = (d) => (d === 0 ? "0" : d.toExponential(1));
  const largest = Object.entries(differences)
    .map(([pair, d]) => `${pair}: ${small(d)}`)
    .join("; ");
  return [
    el("h3", { text: "The same by three ways" }),
    equation(...three.map((out, i) => matrix(`version ${i + 1}`, ways[i], out))),
    el("p", { class: "hint", text: `Largest difference: ${largest}.` }),
  ];
}

function draw() {
  const v = props.value;
  if (!v) return;
  root.replaceChildren(...weighing(v), ...product(v), ...(v.version < 4 ? comparison(v) : []));
}
watch("value", draw);
draw();
