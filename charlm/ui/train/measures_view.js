// What training does to each layer: a small chart for each measure, a line for each layer. A step that is pointed at
// in one of them is marked in all.
const { el, svg, count, percent, walk } = window.charlm;
const root = element.querySelector(".measures_view");
const HEIGHT = 170;
const MARGIN = { left: 46, right: 8, top: 10, bottom: 22 };
const legend = el("p", { class: "legend" });
const label = el("p", { class: "say", role: "status" });
const charts = el("div", { class: "charts" });
const panel = el("div", {}, el("h2", { text: "Layer by layer" }), legend, label, charts);
let shown = null;
let chosen = null; // The place of the step that was pointed at; null: the latest.
let drawn = [];

const at = () => Math.min(chosen ?? Infinity, shown.steps.length - 1);
const inner = (name) => !["embedding", "logits"].includes(name);

// Layers from light to dark; what lies before and after them is dashed.
function look(name, names) {
  if (!inner(name)) return { class: `line ${name}` };
  const layers = names.filter(inner);
  const share = layers.length > 1 ? layers.indexOf(name) / (layers.length - 1) : 1;
  return {
    class: "line",
    style: `stroke: color-mix(in srgb, var(--positive) ${45 + 55 * share}%, transparent)`,
  };
}

function entry(name, names) {
  const sample = svg("svg", { width: 22, height: 10, "aria-hidden": "true" });
  sample.append(svg("path", { d: "M 0 5 H 22", ...look(name, names) }));
  return el("span", {}, sample, ` ${name}`);
}

const written = (key, value) => (key === "dead" ? percent(value) : (+value.toPrecision(2)).toString());

function tell(measure, i) {
  const values = measure.series.map(({ name, values }) => `${name} ${written(measure.key, values[i])}`);
  return `${measure.title} at step ${count(shown.steps[i])}: ${values.join(", ")}.`;
}

// From a value to its place: by its logarithm, but for a share.
function scales(measure, width) {
  const share = measure.key === "dead";
  const values = measure.series.flatMap((line) => line.values);
  const positive = values.filter((value) => value > 0);
  const log = (value) => Math.log10(Math.max(value, 1e-12));
  let low = share ? 0 : Math.floor(Math.min(...positive.map(log)));
  let high = share ? 1 : Math.ceil(Math.max(...positive.map(log)));
  if (!positive.length && !share) [low, high] = [-1, 0];
  if (low === high) high = low + 1;
  const place = share ? (value) => value : log;
  const { left, right, top, bottom } = MARGIN;
  const [first, last] = [shown.steps[0], shown.steps.at(-1)];
  const y = (value) => {
    const within = Math.min(high, Math.max(low, place(value)));
    return HEIGHT - bottom - ((within - low) / (high - low)) * (HEIGHT - top - bottom);
  };
  return {
    x: (step) => left + ((step - first) / Math.max(1, last - first)) * (width - left - right),
    y,
    ticks: share ? [0, 0.5, 1] : powers(low, high),
  };
}

// About four powers of ten.
function powers(low, high) {
  const by = Math.ceil((high - low) / 4);
  return Array.from({ length: Math.floor((high - low) / by) + 1 }, (_, i) => 10 ** (low + i * by));
}

const name = (key, tick) =>
  key === "dead"
    ? `${100 * tick}\u00a0%`
    : tick >= 1e-3 && tick < 1e5
      ? `${+tick.toPrecision(1)}`
      : tick.toExponential(0);

function axes({ x, y, ticks }, key, width) {
  const foot = HEIGHT - MARGIN.bottom;
  const right = width - MARGIN.right;
  const horizontal = ticks.flatMap((tick) => [
    svg("line", { class: "gridline", x1: MARGIN.left, x2: right, y1: y(tick), y2: y(tick) }),
    svg("text", { x: MARGIN.left - 5, y: y(tick) + 4, "text-anchor": "end" }, name(key, tick)),
  ]);
  const [first, last] = [shown.steps[0], shown.steps.at(-1)];
  const ends = [
    svg("text", { x: x(first), y: foot + 16 }, `step ${count(first)}`),
    svg("text", { x: right, y: foot + 16, "text-anchor": "end" }, last > first ? count(last) : ""),
  ];
  return [...horizontal, ...ends];
}

// Where a measure ought to be.
function band({ band }, { y }, width) {
  if (!band) return [];
  const [foot, head] = band.map(y);
  const place = { x: MARGIN.left, width: width - MARGIN.left - MARGIN.right };
  return [svg("rect", { class: "band", ...place, y: head, height: Math.max(0, foot - head) })];
}

function lines(measure, { x, y }) {
  const names = shown.measures[0].series.map((line) => line.name);
  return measure.series.flatMap((line) => {
    const places = line.values.map((value, i) => `${x(shown.steps[i]).toFixed(1)},${y(value).toFixed(1)}`);
    const drawn = svg("polyline", { points: places.join(" "), ...look(line.name, names) });
    if (places.length > 1) return [drawn];
    const [cx, cy] = places[0].split(",");
    return [svg("circle", { cx, cy, r: 3, ...look(line.name, names) })];
  });
}

function columns(measure, { x }, width) {
  const places = shown.steps.map(x);
  const edges = [0, ...places.slice(1).map((place, i) => (place + places[i]) / 2), width];
  return shown.steps.map((_, i) =>
    svg("rect", {
      class: "column",
      role: "option",
      "aria-label": tell(measure, i),
      x: edges[i],
      y: 0,
      width: Math.max(0, edges[i + 1] - edges[i]),
      height: HEIGHT,
    }),
  );
}

// A chart in `box`: its picture, and what marks a step in it.
function chart(measure, box, width) {
  const scale = scales(measure, width);
  const attributes = { role: "listbox", "aria-label": `${measure.title} by layer, at each step measured` };
  const picture = svg("svg", { class: "chart", width, height: HEIGHT, ...attributes });
  const cursor = svg("line", { class: "cursor", y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom });
  const rects = columns(measure, scale, width);
  picture.append(
    ...band(measure, scale, width),
    ...axes(scale, measure.key, width),
    cursor,
    ...lines(measure, scale),
    ...rects,
  );
  box.replaceChildren(picture);
  const walked = walk(picture, ".column", (_, i) => {
    chosen = i === shown.steps.length - 1 ? null : i;
    show(measure);
  });
  function mark(i) {
    const x = scale.x(shown.steps[i]);
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
    for (const [j, rect] of rects.entries()) rect.setAttribute("aria-selected", i === j);
    walked.begin(i);
  }
  return { measure, mark, rects };
}

function show(measure) {
  label.textContent = tell(measure, at());
  for (const { mark } of drawn) mark(at());
}

function figure({ key, title, healthy, well, said }) {
  return el(
    "figure",
    { "data-measure": key },
    el("figcaption", {}, el("b", { text: title })),
    el("div", { class: "box" }),
    el("p", { class: well ? "verdict" : "verdict ill", text: said }),
    el("p", { class: "hint", text: healthy }),
  );
}

const focusedChart = () => drawn.findIndex(({ rects }) => rects.includes(document.activeElement));

function drawCharts(focused = focusedChart()) {
  if (!shown || !charts.clientWidth) return;
  drawn = shown.measures.map((measure, i) => {
    const box = charts.children[i].querySelector(".box");
    return chart(measure, box, box.clientWidth);
  });
  show(shown.measures[Math.max(0, focused)]);
  if (focused >= 0) drawn[focused]?.rects[at()].focus({ preventScroll: true });
}

function draw() {
  const v = props.value;
  if (!v?.measures) {
    shown = null;
    root.replaceChildren();
    return;
  }
  if (v.id !== shown?.id) chosen = null;
  shown = v;
  const names = v.measures[0].series.map((line) => line.name);
  legend.replaceChildren(...names.map((name) => entry(name, names)));
  const focused = focusedChart();
  charts.replaceChildren(...v.measures.map(figure));
  if (!panel.isConnected) root.replaceChildren(panel);
  drawCharts(focused);
}

new ResizeObserver(() => drawCharts()).observe(charts);
watch("value", draw);
draw();
