// Matrices as tables of numbers, in one line of the equation. A cell that is pointed at, or reached by a key,
// lights up those that made it, and the sentence below gives its formula with its numbers.
const { el, glyph, glyphs, heat, walk } = window.charlm;
const root = element.querySelector(".averaging_view");

// The most positions for which a square matrix has room for its numbers.
const MAX_READABLE = 8;
// Which share of heat's strength full colour has where a number stands on it, which stays readable.
const FULL = 0.7;
const HEADINGS = {
  1: "Version 1: out is a mean, taken row by row",
  2: "Version 2: out = wei @ x, the weights written down",
  3: "Version 3: out = wei @ x, the weights a softmax of equal scores",
  4: "Version 4: out = wei @ v, the weights a softmax of what the positions ask and offer",
};
const CAPTIONS = {
  x: "the positions",
  tril: "who may look at whom",
  q: "queries: what I look for",
  k: "keys: what I have",
  v: "values: what I tell",
  out: "what each position gets",
};
const WAYS = ["the loop", "tril, divided by row sums", "softmax of masked zeros"];

// The cell that the sentence is about, and the cell of out that the three versions are compared in.
let chosen = { name: "out", r: 2, c: 0 };
let compared = chosen;
let show = () => {};

function number(x) {
  if (x === null) return "−∞";
  return (Number.isInteger(x) ? String(x) : x.toFixed(2)).replace("-", "−");
}

const captionOf = (name, version) => {
  if (name === "scores") return version === 4 ? "q·k/√d, the future masked" : "all equal, the future masked";
  if (name === "wei") return version === 2 ? "tril, each row divided by its sum" : "softmax of each row";
  return CAPTIONS[name];
};

// The formula of a cell with its numbers, by the name of its matrix.
const FORMULAS = {
  x(v, r, c) {
    return `${number(v.matrices.x[r][c])}: a random number (seed ${v.seed}), in place of channel ${c} of a learned embedding`;
  },
  tril(_, r, c) {
    return c > r ? `0: ${c} comes after ${r}` : `1: position ${r} may look at position ${c}`;
  },
  scores(v, r, c) {
    const score = v.matrices.scores[r][c];
    if (score === null) return `−∞: ${c} comes after ${r}, so its weight will be exp(−∞) = 0`;
    if (v.version === 3) return "0: every position up to its own counts the same";
    const { q, k } = v.matrices;
    return `q[${r}] · k[${c}] / √${q[r].length} = (${dot(q[r], k[c])}) / ${number(Math.sqrt(q[r].length))} = ${number(score)}`;
  },
  wei(v, r, c) {
    const { tril, scores, wei } = v.matrices;
    if (tril) return `tril[${r}, ${c}] / (sum of row ${r}) = ${tril[r][c]} / ${r + 1} = ${number(wei[r][c])}`;
    const exps = scores[r].slice(0, r + 1).map((score) => `exp(${number(score)})`);
    const sum = scores[r].slice(0, r + 1).reduce((total, score) => total + Math.exp(score), 0);
    const own = scores[r][c] === null ? 0 : Math.exp(scores[r][c]);
    return (
      `exp(${number(scores[r][c])}) / (${exps.join(" + ")})` +
      ` = ${number(own)} / ${number(sum)} = ${number(wei[r][c])}`
    );
  },
  out(v, r, c) {
    const values = v.matrices[v.source].slice(0, r + 1).map((row) => row[c]);
    const result = number(v.matrices.out[r][c]);
    if (v.version === 1) return `(${values.map(number).join(" + ")}) / ${r + 1} = ${result}`;
    const rest = r + 1 < v.chars.length ? "; whatever comes later has weight 0" : "";
    return `${dot(v.matrices.wei[r].slice(0, r + 1), values)} = ${result}${rest}`;
  },
};
for (const name of ["q", "k", "v"])
  FORMULAS[name] = (v, r, c) =>
    `x[${r}] · (row ${c} of the random matrix for ${name}) = ${dot(v.matrices.x[r], v.projections[name][c])}` +
    ` = ${number(v.matrices[name][r][c])}`;

const dot = (a, b) => a.map((x, i) => `${number(x)} · ${number(b[i])}`).join(" + ");

// Whether a cell went into the chosen one.
function isUsed(v, name, r, c) {
  const to = chosen;
  const inRow = r === to.r && c <= to.r;
  switch (to.name) {
    case "out":
      return (name === "wei" && inRow) || (name === v.source && c === to.c && r <= to.r);
    case "wei":
      return (name === "tril" || name === "scores") && inRow;
    case "scores":
      return to.c <= to.r && ((name === "q" && r === to.r) || (name === "k" && r === to.c));
    default:
      return "qkv".includes(to.name) && name === "x" && r === to.r;
  }
}

const isSquare = (name) => ["tril", "scores", "wei"].includes(name);

// The character at a position, and its number.
const positionHead = (chars, t) =>
  el("th", { scope: "row" }, el("small", { text: t }), " ", el("span", {}, glyph(chars[t])));

function table(v, name) {
  const rows = v.matrices[name];
  const scale = v.scales[name];
  const strength = isSquare(name) && v.chars.length > MAX_READABLE ? 1 : FULL;
  const heads = rows[0].map((_, c) =>
    el("th", { scope: "col" }, isSquare(name) ? glyph(v.chars[c]) : String(c)),
  );
  const shape = `(${rows.length}, ${rows[0].length})`;
  const node = el(
    "table",
    { class: isSquare(name) ? "matrix square" : "matrix", "data-matrix": name },
    el(
      "caption",
      {},
      el("b", { text: name }),
      ` ${shape} ${captionOf(name, v.version)}. `,
      el("span", { class: "scale" }, "Full colour: ", number(scale)),
    ),
    el("thead", {}, el("tr", {}, el("td"), ...heads)),
    el(
      "tbody",
      {},
      ...rows.map((row, r) =>
        el("tr", {}, positionHead(v.chars, r), ...row.map((x, c) => cell(x, r, c, strength / scale))),
      ),
    ),
  );
  const walked = walk(node, "tbody td", (td) => show({ name, r: +td.dataset.r, c: +td.dataset.c }));
  if (chosen.name === name) walked.begin(chosen.r * rows[0].length + chosen.c);
  return node;
}

function cell(x, r, c, strength) {
  const place = { "data-r": r, "data-c": c, text: number(x) };
  if (x === null) return el("td", { ...place, class: "masked" });
  return el("td", { ...place, style: `--heat: ${heat(strength * x)}` });
}

// A matrix with the sign before it, which stays with it; null is for none.
function factor(v, sign, name) {
  const operator = sign === null ? [] : [el("span", { class: "operator", text: sign })];
  return el("div", { class: "factor" }, ...operator, table(v, name));
}

const line = (label, ...factors) =>
  el("div", { class: "equation", role: "group", "aria-label": label }, ...factors);

function equation(v) {
  const source = factor(v, v.version === 1 ? "" : "@", v.source);
  const out = factor(v, v.version === 1 ? "→" : "=", "out");
  if (v.version === 1) {
    const none = el("p", {
      class: "none",
      text: "No weights yet: for each position t, x[0] to x[t] are added up and divided by t + 1.",
    });
    return line("The equation", none, source, out);
  }
  const first = v.version === 2 ? "tril" : "scores";
  return line("The equation", factor(v, null, first), factor(v, "→", "wei"), source, out);
}

// What the scores and the values of version 4 are made of.
const projections = (v) =>
  line("Where q, k and v come from", factor(v, null, "x"), factor(v, "→", "q"), factor(v, "", "k"));

function legend({ version, seed, chars }) {
  const shades = [-1, -0.5, 0, 0.5, 1].map((x) =>
    el("span", { class: "shade", style: `--heat: ${heat(FULL * x)}` }),
  );
  const sentences = [
    version === 4
      ? `The head is untrained: its three matrices are random numbers (seed ${seed}), and so is x. Whom it listens to means nothing yet; the next tab shows heads that have learned.`
      : `x is random (seed ${seed}): four numbers a position, in place of what a model learns about a character.`,
    "Numbers are rounded to two digits.",
    chars.length > MAX_READABLE
      ? "The numbers of the square matrices are in the sentence only: point at a cell."
      : "",
  ];
  return el(
    "p",
    { class: "hint" },
    el("span", { class: "shades", "aria-hidden": "true" }, ...shades),
    " Orange is negative, indigo positive; above each matrix stands the number that has full colour. ",
    sentences.join(" "),
  );
}

// The first three versions give the same.
function comparison({ three, differences }) {
  const { r, c } = compared;
  const largest = Math.max(...Object.values(differences));
  const rows = three.map((out, i) =>
    el(
      "tr",
      {},
      el("th", { scope: "row", text: `${i + 1} · ${WAYS[i]}` }),
      el("td", { text: out[r][c].toFixed(8).replace("-", "−") }),
    ),
  );
  const heads = ["Version", `out[${r}, ${c}]`].map((text) => el("th", { scope: "col", text }));
  return [
    el("h2", { text: "The same three ways" }),
    el(
      "table",
      { class: "ways" },
      el("caption", { text: "One number of out by versions 1, 2 and 3: point at another cell of out." }),
      el("thead", {}, el("tr", {}, ...heads)),
      el("tbody", {}, ...rows),
    ),
    el("p", {
      class: "hint",
      text: `Largest difference between any two results, over all of out: ${largest === 0 ? "0" : largest.toExponential(1).replace("-", "−")}. float32 keeps about seven digits, and the versions add up in another order.`,
    }),
  ];
}

function draw() {
  const v = props.value;
  if (!v) return;
  chosen = kept(v, chosen);
  compared = { ...compared, r: Math.min(compared.r, v.chars.length - 1) };
  const matrices = el("div", {}, equation(v), ...(v.version === 4 ? [projections(v)] : []));
  const say = el("p", { class: "say", role: "status" });
  const ways = el("div");
  show = (cell) => {
    chosen = cell;
    if (cell.name === "out") compared = cell;
    light(matrices, v);
    say.replaceChildren(...sentence(v));
    if (v.version < 4) ways.replaceChildren(...comparison(v));
  };
  root.classList.toggle("dense", v.chars.length > MAX_READABLE);
  root.style.setProperty("--positions", v.chars.length);
  root.replaceChildren(el("h2", { text: HEADINGS[v.version] }), matrices, say, legend(v), ways);
  show(chosen);
}

// The cell, or the nearest that there is now.
function kept({ matrices, chars }, { name, r, c }) {
  const row = Math.min(r, chars.length - 1);
  if (!matrices[name]) return { name: "out", r: row, c: 0 };
  return { name, r: row, c: Math.min(c, matrices[name][0].length - 1) };
}

function light(matrices, v) {
  for (const td of matrices.querySelectorAll("tbody td")) {
    const { matrix } = td.closest("table").dataset;
    const [r, c] = [+td.dataset.r, +td.dataset.c];
    td.classList.toggle("target", matrix === chosen.name && r === chosen.r && c === chosen.c);
    td.classList.toggle("lit", isUsed(v, matrix, r, c));
  }
}

function sentence(v) {
  const { name, r, c } = chosen;
  const column = isSquare(name) ? [glyphs(v.chars[c]), ` at ${c}`] : [`channel ${c}`];
  const where = el("span", { class: "where" }, glyphs(v.chars[r]), ` at ${r}, `, ...column, ": ");
  return [where, `${name}[${r}, ${c}] = ${FORMULAS[name](v, r, c)}`];
}
watch("value", draw);
draw();
