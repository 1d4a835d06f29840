// One training step of the bigram table: the batch, a picture of the whole table for each stage of the step, and
// under each the formula of the cell that is pointed at.
const { el, svg, glyphs, floats, count, many, percent, scale, heat, heatMap, walk, asker, trouble } =
  window.charlm;
const root = element.querySelector(".glass_view");
const CHART_HEIGHT = 150;
const MARGIN = { left: 38, right: 12, top: 14, bottom: 22 };
// What each computes, what that means, and how it comes to the number of a cell.
const STAGES = [
  {
    name: "table",
    title: "1 Logits",
    caption: "the rows of the table",
    means: "A row of the table is the scores of whatever follows its character.",
    formula: tellLogit,
  },
  {
    name: "probs",
    title: "2 Softmax",
    caption: "of each row",
    means: "A row becomes probabilities. Outlined are the pairs of the batch, which ought to be likely.",
    formula: tellProbability,
  },
  {
    name: "losses",
    title: "3 Loss",
    caption: "what each pair adds",
    means: "Minus the logarithm of the target's probability, on average over the places of the batch.",
    formula: tellLoss,
  },
  {
    name: "gradient",
    title: "4 Gradient",
    caption: "of the loss, by each cell",
    means: "How the loss grows with each cell: it would fall if orange cells rose and indigo cells fell.",
    formula: tellGradient,
  },
  {
    name: "m",
    title: "5 Moment m",
    caption: "of the gradients",
    means: "A moving average of the gradients: which way a cell was pulled of late.",
    formula: tellFirstMoment,
  },
  {
    name: "v",
    title: "6 Moment v",
    caption: "of their squares",
    means: "A moving average of their squares: how hard a cell was pulled of late.",
    formula: tellSecondMoment,
  },
  {
    name: "change",
    title: "7 Change",
    caption: "of each cell, by AdamW",
    means: "Against m, divided by the root of v: small gradients move a cell about as far as large ones.",
    formula: tellChange,
  },
  {
    name: "new_table",
    title: "8 New table",
    caption: "the sum of 1 and 7",
    formula: tellSum,
  },
];
const LAST = STAGES.length;

let step = 1; // The one that is wanted,
let stage = LAST; // and the last of its stages that is shown.
let shown = null; // What the server told of it,
let places = []; // the places of its batch, each with its input and its target,
let maps = []; // and its pictures.
let pinned = null; // The cell to which the pointer returns: its row and its column,
let cell = null; // and the one that is pointed at.

const problem = el("p", { class: "hint", role: "status", text: "Computing …" });
const cut = el("p", { class: "hint cut" });
const batch = el("div", {
  class: "batch",
  role: "listbox",
  "aria-label": "The places of the batch: number, input, target, loss",
});
const chart = el("div", { class: "chart" });
const one = el("button", { type: "button", class: "first", text: "One more step", onclick: () => more(1) });
const ten = el("button", { type: "button", text: "Ten more", onclick: () => more(10) });
const next = el("button", { type: "button", text: "Stage by stage", onclick: nextStage });
const again = el("button", { type: "button", text: "Start again", onclick: () => want(1) });
const say = el("p", { class: "say", role: "status" });
const stages = el("div", { class: "stages" });
const key = scale("In each picture a row is the character read, a column the next one; full colour is", [
  ["minus the number named above it", heat(-1)],
  ["plus that number", heat(1)],
]);
const hint = el("p", { class: "hint" });
const body = el(
  "div",
  { hidden: true },
  cut,
  el(
    "div",
    { class: "top" },
    el("section", {}, el("h3", { text: "The batch: input, target, loss" }), batch),
    el("section", {}, el("h3", { text: "The loss so far" }), chart),
  ),
  el("div", { class: "controls" }, el("div", { class: "buttons" }, one, ten, next, again), say),
  stages,
  key,
  hint,
);

// A number with three digits.
function digits(x) {
  if (x === 0) return "0";
  const size = Math.abs(x);
  const text = size >= 0.001 && size < 10_000 ? x.toPrecision(3) : x.toExponential(2);
  return text.replace(/-/g, "−");
}
// A setting, as it was set.
const setting = (x) => `${+x.toPrecision(6)}`.replace(/-/g, "−");
const inBrackets = (x) => (x < 0 ? `(${digits(x)})` : digits(x));
const changeOf = (x) => `${x < 0 ? "fell" : "rose"} by ${digits(Math.abs(x))}`;

function listed(numbers) {
  const last = numbers.at(-1);
  return numbers.length > 1 ? `${numbers.slice(0, -1).join(", ")} and ${last}` : `${last}`;
}

// What the server told, its tables as numbers.
function decode({ tables, ...told }) {
  const numbers = Object.fromEntries(Object.entries(tables).map(([name, text]) => [name, floats(text)]));
  return { ...told, ...numbers, n: told.chars.length };
}

const at = ([row, column]) => row * shown.n + column;
const charOf = (id) => el("b", {}, glyphs(shown.chars[id]));
const rowOf = (table, row) => table.subarray(row * shown.n, (row + 1) * shown.n);
const reading = (row) => places.filter(({ input }) => input === row);
const followed = ([row, column]) => reading(row).filter(({ target }) => target === column);

// What each pair of characters adds to the loss.
function lossTable() {
  const table = new Float32Array(shown.n * shown.n);
  for (const { input, target, loss } of places) table[at([input, target])] += loss / places.length;
  return table;
}

const tableOf = (name) => (name === "losses" ? lossTable() : shown[name]);

// The formulas of a cell.
function tellLogit([row, column]) {
  return ["table[", charOf(row), ", ", charOf(column), `] = ${digits(shown.table[at([row, column])])}`];
}

// Of a cell, e^logit, and the sum of these over its row.
function powers(table, [row, column]) {
  const all = [...rowOf(table, row)].map(Math.exp);
  return [all[column], all.reduce((a, b) => a + b)];
}

function tellProbability(place) {
  const [power, sum] = powers(shown.table, place);
  return [
    `p = e^${digits(shown.table[at(place)])} / Σ e^logit = ${digits(power)} / ${digits(sum)} = `,
    el("b", { text: digits(shown.probs[at(place)]) }),
  ];
}

function tellLoss([row, column]) {
  const found = followed([row, column]);
  if (!found.length) return [charOf(row), " is never followed by ", charOf(column), " here: nothing"];
  const [p, { loss }] = [shown.probs[at([row, column])], found[0]];
  const times = found.length > 1 ? `${found.length} · ` : "";
  return [
    `−log p = −log ${digits(p)} = ${digits(loss)}, at ${found.length} of ${places.length} places: `,
    `${times}${digits(loss)} / ${places.length} = `,
    el("b", { text: digits((found.length * loss) / places.length) }),
  ];
}

function tellGradient([row, column]) {
  const read = reading(row);
  if (!read.length) return [charOf(row), " is no input of this batch: ", el("b", { text: "0" })];
  const p = digits(shown.probs[at([row, column])]);
  const hits = followed([row, column]).length;
  const times = (n, term) => (n === 0 ? [] : [n > 1 ? `${n} · ${term}` : term]);
  const terms = [...times(hits, `(${p} − 1)`), ...times(read.length - hits, p)];
  const sum = terms.length > 1 ? `(${terms.join(" + ")})` : terms[0];
  return [
    charOf(row),
    ` is read at ${read.length > 1 ? "places" : "place"} ${listed(read.map(({ i }) => i + 1))}: `,
    "Σ (p − [target = ",
    charOf(column),
    `]) / N = ${sum} / ${places.length} = `,
    el("b", { text: digits(shown.gradient[at([row, column])]) }),
  ];
}

// A moving average of the gradients, or of what `taken` makes of them.
function tellMoment(name, symbol, beta, taken, [row, column]) {
  const i = at([row, column]);
  return [
    `β·${name} + (1 − β)·${symbol} = ${beta} · ${inBrackets(shown[`${name}_before`][i])} + `,
    `${setting(1 - beta)} · ${taken(inBrackets(shown.gradient[i]))} = `,
    el("b", { text: digits(shown[name][i]) }),
  ];
}
function tellFirstMoment(place) {
  return tellMoment("m", "g", shown.options.beta1, (g) => g, place);
}
function tellSecondMoment(place) {
  return tellMoment("v", "g²", shown.options.beta2, (g) => `${g}²`, place);
}

function tellChange(place) {
  const i = at(place);
  const { lr, beta1, beta2, eps, weight_decay } = shown.options;
  const { step: t, m, m_hat, v, v_hat, table, change } = shown;
  const line = (...parts) => el("span", { class: "line" }, ...parts);
  return [
    line(`m̂ = m / (1 − ${beta1}^${t}) = ${digits(m[i])} / ${digits(1 - beta1 ** t)} = ${digits(m_hat[i])}`),
    line(`v̂ = v / (1 − ${beta2}^${t}) = ${digits(v[i])} / ${digits(1 - beta2 ** t)} = ${digits(v_hat[i])}`),
    line(
      "Δ = −lr·m̂ / (√v̂ + ε) − lr·decay·w = ",
      `−${lr} · ${inBrackets(m_hat[i])} / (√${digits(v_hat[i])} + ${setting(eps)}) `,
      `− ${lr} · ${weight_decay} · ${inBrackets(table[i])} = `,
      el("b", { text: digits(change[i]) }),
    ),
  ];
}

function tellSum(place) {
  const { table, change, new_table } = shown;
  const i = at(place);
  return [`${digits(table[i])} + ${inBrackets(change[i])} = `, el("b", { text: digits(new_table[i]) })];
}

function probability(table) {
  const [power, sum] = powers(table, cell);
  return percent(power / sum);
}

// What the step did to the loss and to the chosen cell.
function sentence() {
  const [before, after] = shown.losses.slice(-2).map((loss) => loss.toFixed(3));
  const way =
    before === after ? "stays at" : +after < +before ? `fell from ${before} to` : `rose from ${before} to`;
  const parts = [`Step ${count(shown.step)}: the loss ${way} ${after} nats a character. `];
  const [row, column] = cell;
  const change = shown.change[at(cell)];
  parts.push(charOf(column), " after ", charOf(row));
  if (change === 0) {
    parts.push(
      reading(row).length
        ? ": its logit stays as it is."
        : ": its row is not read in this batch, and stays as it is.",
    );
  } else {
    const [was, is] = [shown.table, shown.new_table].map(probability);
    parts.push(`: its logit ${changeOf(change)}, and its probability went from ${was} to ${is}.`);
  }
  if (shown.step === shown.most)
    parts.push(` ${count(shown.most)} steps are the most that are shown here: start again.`);
  return parts;
}

// What the last stage that is shown does, and finds for the chosen cell.
function unfinished() {
  const { name, title, means } = STAGES[stage - 1];
  const [row, column] = cell;
  const value = digits(tableOf(name)[at(cell)]);
  const where = `Step ${count(shown.step)}, stage ${stage} of ${LAST}, ${title.slice(2)}. ${means} `;
  return [where, charOf(column), " after ", charOf(row), `: ${value}.`];
}

// Marks a cell everywhere, and tells its formulas.
function point(row, column) {
  cell = [row, column];
  maps.forEach(({ mark, formula }, k) => {
    mark(row, column);
    formula.replaceChildren(...(k < stage ? STAGES[k].formula(cell) : ["Not computed yet"]));
  });
  [...batch.querySelectorAll(".place")].forEach((node, i) => {
    const { input, target } = places[i];
    node.classList.toggle("lit", input === row);
    node.classList.toggle("target", input === row && target === column);
    node.setAttribute("aria-selected", input === row && target === column);
  });
  say.replaceChildren(...(stage < LAST ? unfinished() : sentence()));
}

function pin() {
  pinned = cell;
}

function picture({ name, title, caption }, k) {
  const table = tableOf(name);
  const most = table.reduce((a, x) => Math.max(a, Math.abs(x)), 0);
  const isShown = k < stage;
  const map = heatMap({
    name,
    title,
    caption: `${caption}\nfull colour: ${isShown ? digits(most) : "…"}`,
    labels: shown.chars,
    heatAt: (i) => (isShown && most ? table[i] / most : 0),
    point,
  });
  if (name === "probs" && isShown) map.figure.querySelector(".board").append(...targets());
  return map;
}

// The pairs of the batch, outlined in a picture.
function targets() {
  const pairs = new Set(places.map(({ input, target }) => at([input, target])));
  const part = 100 / shown.n;
  return [...pairs].map((i) => {
    const [row, column] = [Math.floor(i / shown.n), i % shown.n];
    const style = `top:${part * row}%;left:${part * column}%;width:${part}%;height:${part}%`;
    return el("span", { class: "pair", style });
  });
}

function drawStages() {
  const focused = stages.querySelector(".board:focus")?.closest(".stage").dataset.stage;
  maps = STAGES.map((told, k) => {
    const { figure, mark } = picture(told, k);
    const formula = el("p", { class: "formula" });
    const current = stage < LAST && k === stage - 1;
    const kind = `stage${current ? " current" : ""}${k < stage ? "" : " later"}`;
    return { mark, formula, node: el("div", { class: kind, "data-stage": told.name }, figure, formula) };
  });
  stages.replaceChildren(...maps.map(({ node }) => node));
  if (focused) stages.querySelector(`[data-stage="${focused}"] .board`).focus({ preventScroll: true });
}

function drawBatch() {
  const place = ({ input, target, loss, i }) =>
    el(
      "div",
      { class: "place", role: "option", "aria-selected": "false", tabindex: -1 },
      el("small", { text: i + 1 }),
      " ",
      el("span", {}, glyphs(shown.chars[input])),
      el("span", { class: "arrow", text: " → " }),
      el("span", {}, glyphs(shown.chars[target])),
      " ",
      el("span", { class: "loss", text: loss.toFixed(2) }),
    );
  const focused = [...batch.children].indexOf(document.activeElement);
  batch.replaceChildren(...places.map(place));
  walked.begin(Math.max(0, focused));
  if (focused >= 0) batch.children[focused].focus({ preventScroll: true });
}

// The loss before the first step and after each, above the least that a table can reach.
function drawChart() {
  if (!shown || !chart.clientWidth) return;
  const { least } = shown;
  const losses = stage < LAST ? shown.losses.slice(0, -1) : shown.losses;
  const done = losses.length - 1;
  const [left, right] = [MARGIN.left, chart.clientWidth - MARGIN.right];
  const [low, high] = [Math.min(least, ...losses), Math.max(...losses)];
  const x = (k) => left + (k / Math.max(1, done)) * (right - left);
  const room = CHART_HEIGHT - MARGIN.top - MARGIN.bottom;
  const y = (loss) => MARGIN.top + room * (1 - (loss - low) / (high - low || 1));
  const foot = CHART_HEIGHT - 5;
  const told = `The loss went from ${losses[0].toFixed(3)} to ${losses.at(-1).toFixed(3)} in ${many(done, "step")}; no table can get below ${least.toFixed(3)}.`;
  const drawn = svg("svg", {
    role: "img",
    "aria-label": told,
    width: chart.clientWidth,
    height: CHART_HEIGHT,
  });
  drawn.append(
    svg("line", { class: "least", x1: left, x2: right, y1: y(least), y2: y(least) }),
    svg("polyline", { points: losses.map((loss, k) => `${x(k)},${y(loss)}`).join(" ") }),
    svg("circle", { cx: x(done), cy: y(losses.at(-1)), r: 4 }),
    svg("text", { x: left - 5, y: y(losses[0]) + 4, "text-anchor": "end" }, losses[0].toFixed(2)),
    svg("text", { x: left - 5, y: y(least) + 4, "text-anchor": "end" }, least.toFixed(2)),
    svg("text", { x: left, y: foot, "text-anchor": "middle" }, "0"),
    svg("text", { x: (left + right) / 2, y: foot, "text-anchor": "middle" }, "dotted: the least possible"),
    svg("text", { x: right, y: foot, "text-anchor": "end" }, `step ${count(done)}`),
  );
  chart.replaceChildren(drawn);
}

function drawButtons() {
  const atEnd = step >= shown.most;
  for (const button of [one, ten]) button.setAttribute("aria-disabled", atEnd);
  next.textContent = stage < LAST ? "Next stage" : "Stage by stage";
}

function drawAll() {
  const { x, y, probs, read, options } = shown;
  places = x.flat().map((input, i) => {
    const target = y.flat()[i];
    return { i, input, target, loss: -Math.log(probs[at([input, target])]) };
  });
  if (!pinned) {
    pinned = [places[0].input, places[0].target];
    cell = pinned;
  }
  cut.hidden = [...props.value.text].length <= read;
  cut.textContent = `Of this text, the last ${read} characters are used.`;
  hint.textContent = `The loss is the mean of the losses at the ${places.length} places (N). The batch is the same at every step, so that only the table changes, and lr stays ${options.lr}; a training run takes another batch each time and lowers lr to zero.`;
  drawBatch();
  show();
}

function show() {
  drawStages();
  drawChart();
  drawButtons();
  point(...cell);
}

const ask = asker(root, (asked) => server.one_step(asked), tell);

function tell(answer, { text }) {
  if (text !== props.value?.text) return;
  const isOther = text !== shown?.text;
  problem.replaceChildren(...(answer.error ? trouble(answer, () => want(step)) : []));
  body.hidden = Boolean(answer.error && isOther);
  if (answer.error) {
    if (!isOther) step = shown.step;
    return;
  }
  if (isOther) pinned = null;
  shown = { text, ...decode(answer) };
  drawAll();
}

function want(n) {
  [step, stage] = [n, LAST];
  ask({ text: props.value.text, step });
}

function more(n) {
  if (shown && step < shown.most) want(Math.min(shown.most, step + n));
}

// Shows the step from its first stage on.
function nextStage() {
  if (!shown) return;
  stage = (stage % LAST) + 1;
  show();
  stages.children[stage - 1].scrollIntoView({ block: "nearest", inline: "start" });
}

function draw() {
  const text = props.value?.text;
  if (text === undefined || text === root.dataset.text) return;
  root.dataset.text = text;
  want(1);
}

const walked = walk(batch, ".place", ({ classList }, i) => {
  if (classList.contains("place")) point(places[i].input, places[i].target);
});
batch.addEventListener("focusin", pin);
for (const box of [batch, stages]) {
  box.addEventListener("click", pin);
  box.addEventListener("keydown", pin);
  box.addEventListener("pointerleave", () => shown && point(...pinned));
}
new ResizeObserver(drawChart).observe(chart);
root.replaceChildren(problem, body);
watch("value", draw);
draw();
