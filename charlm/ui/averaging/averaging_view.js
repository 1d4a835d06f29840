// Matrices as grids of numbers. Pointing at a cell of the product lights up the row and the column that made it.
const { el, heat } = window.charlm;
const root = element.querySelector(".averaging_view");
const number = (x) => (x === null ? "−∞" : (Number.isInteger(x) ? String(x) : x.toFixed(2)).replace("-", "−"));

function matrix(name, caption, rows, attributes = {}) {
  const largest = Math.max(...rows.flat().map((x) => Math.abs(x ?? 0)), 1e-9);
  const node = el("table", { class: "matrix", "data-matrix": name },
    ...rows.map((row, r) => el("tr", {}, ...row.map((x, c) => {
      const cell = el("td", { "data-r": r, "data-c": c, text: number(x), title: x === null ? "minus infinity" : x.toFixed(6), class: x === null ? "masked" : "" });
      if (x !== null) cell.style.background = heat(x / largest);
      return cell;
    }))));
  return el("figure", attributes, el("figcaption", {}, el("b", { text: name }), " ", caption, el("small", { text: ` (${rows.length}, ${rows[0].length})` })), node);
}
const sign = (text) => el("span", { class: "operator", text });

function draw() {
  const v = props.value;
  if (!v) return;
  const m = v.matrices;
  const say = el("p", { class: "say", role: "status", text: "Point at a cell of out." });
  const rows = [];
  if (v.version === 4) rows.push(el("div", { class: "equation" },
    matrix("x", "the positions", m.x), sign("→"), matrix("q", "what I look for", m.q), matrix("k", "what I have", m.k), matrix("v", "what I tell", m.v)));
  if (v.version >= 2) {
    const steps = [matrix("tril", "who may look at whom", m.tril), sign("→")];
    if (m.scores) steps.push(matrix("scores", v.version === 4 ? "q·k/√d, the future masked" : "all equal, the future masked", m.scores), sign("→"));
    steps.push(matrix("weights", m.scores ? "softmax of each row" : "each row divided by its sum", m.wei));
    rows.push(el("div", { class: "equation" }, ...steps));
  }
  const product = v.version === 1
    ? [matrix(v.source, "the positions", m[v.source]), sign("→")]
    : [matrix("wei", "weights", m.wei), sign("@"), matrix(v.source, v.source === "v" ? "values" : "the positions", m[v.source]), sign("=")];
  const equation = el("div", { class: "equation product" }, ...product, matrix("out", "what each position gets", m.out));
  rows.push(equation, say);

  const light = (r, c) => {
    equation.querySelectorAll(".lit, .target").forEach((n) => n.classList.remove("lit", "target"));
    const cells = (name, r, c) => equation.querySelectorAll(`[data-matrix="${name}"] td${r === null ? "" : `[data-r="${r}"]`}${c === null ? "" : `[data-c="${c}"]`}`);
    cells("out", r, c).forEach((n) => n.classList.add("target"));
    const source = m[v.source];
    const result = number(m.out[r][c]);
    if (v.version === 1) {
      for (let t = 0; t <= r; t++) cells(v.source, t, c).forEach((n) => n.classList.add("lit"));
      const terms = source.slice(0, r + 1).map((row) => number(row[c]));
      say.textContent = `out[${r}, ${c}] = (${terms.join(" + ")}) / ${r + 1} = ${result}`;
      return;
    }
    cells("wei", r, null).forEach((n) => n.classList.add("lit"));
    cells(v.source, null, c).forEach((n) => n.classList.add("lit"));
    say.textContent = `out[${r}, ${c}] = ${m.wei[r].map((w, t) => `${number(w)} · ${number(source[t][c])}`).join(" + ")} = ${result}`;
  };
  equation.querySelectorAll('[data-matrix="out"] td').forEach((n) => {
    n.tabIndex = 0;
    ["pointerenter", "focus", "click"].forEach((e) => n.addEventListener(e, () => light(+n.dataset.r, +n.dataset.c)));
  });

  if (v.version <= 3) rows.push(
    el("h3", { text: "The same by three ways" }),
    el("div", { class: "equation three" }, ...v.three.map((out, i) => matrix(`version ${i + 1}`, ["loop", "tril", "softmax"][i], out))),
    el("p", { class: "hint", text: "Largest difference: " + Object.entries(v.differences).map(([pair, d]) => `${pair}: ${d === 0 ? "0" : d.toExponential(1)}`).join("; ") + "." }));
  root.replaceChildren(...rows);
}
watch("value", draw);
draw();
