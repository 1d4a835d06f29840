// The visitor's runs: a list in which one is chosen, and a chart of all that are ticked.
const { el, count, many, duration, runs, badges, axes, runChart, pngOf } = window.charlm;
const root = element.querySelector(".runs_view");
const STATES = {
  queued: "waiting",
  running: "learning",
  stopped: "stopped",
  failed: "failed",
  diverged: "diverged",
};
const KINDS = { val: "validation", train: "training", batch: "batches" };
const AXES = { steps: "steps", chars: "characters seen", seconds: "seconds" };

const hidden = new Set(); // The runs that are not on the chart.
const looked = {
  kinds: new Set(["val"]),
  axis: "steps",
  logX: false,
  logY: false,
  baselines: true,
  rung: "",
};
let zoomed = null;
let pointed = ""; // The key of the point that is marked.
let chart = null;
let late = false; // Whether something came while a rectangle was drawn.

const verdict = el("p", { class: "verdict", role: "status", hidden: true });
const body = el("tbody");
const table = el(
  "table",
  {},
  el("caption", { class: "hint" }),
  el("thead", {}, el("tr", {}, ...["On the chart", "Run", "Validation loss", "Steps", "Time"].map(heading))),
  body,
);
const box = el("div", { class: "chart-box" });
const say = el("p", { class: "say", role: "status" });
const all = el("button", { type: "button", text: "Whole chart", onclick: () => zoom(null) });
const rungs = el("select", { "aria-label": "A rung of the ladder to compare with", onchange: chooseRung });
const controls = layControls();
const below = el("p", { class: "hint" });
const panel = el("div", {}, el("h2", { text: "Your runs" }), verdict, table, controls, box, say, below);

function heading(text) {
  return el("th", { scope: "col", text });
}

function check(text, checked, change) {
  const input = el("input", { type: "checkbox", onchange: () => change(input.checked) });
  input.checked = checked;
  return el("label", {}, input, ` ${text}`);
}

function layControls() {
  const axis = el("select", { "aria-label": "What the chart is drawn against", onchange: chooseAxis });
  axis.append(...Object.entries(AXES).map(([value, text]) => el("option", { value, text })));
  const kinds = Object.entries(KINDS).map(([kind, text]) =>
    check(text, looked.kinds.has(kind), (on) => {
      looked.kinds[on ? "add" : "delete"](kind);
      drawChart();
    }),
  );
  const set = (name, text) =>
    check(text, looked[name], (on) => {
      looked[name] = on;
      zoom(null);
    });
  const group = (label, ...children) =>
    el("div", { role: "group", "aria-label": label, class: "group" }, ...children);
  return el(
    "div",
    { class: "controls" },
    group("Losses", el("span", { text: "Losses:" }), ...kinds),
    group("Axes", el("label", {}, "against ", axis), set("logX", "log scale"), set("logY", "log loss")),
    group("To compare with", set("baselines", "baselines"), rungs),
    group(
      "The picture",
      el("button", { type: "button", text: "Closer", onclick: () => chart?.closer(0.5) }),
      el("button", { type: "button", text: "Farther", onclick: () => chart?.closer(2) }),
      all,
      el("button", { type: "button", text: "PNG", "aria-label": "Save the chart as PNG", onclick: save }),
    ),
  );
}

function chooseAxis({ target }) {
  looked.axis = target.value;
  zoom(null);
}

function chooseRung({ target }) {
  looked.rung = target.value;
  zoom(null);
}

function zoom(ranges) {
  zoomed = ranges;
  drawChart();
}

async function save() {
  const background = getComputedStyle(document.body).backgroundColor;
  runs.download("runs.png", await pngOf(chart.picture, background));
}

function ask(what, id) {
  runs.want(id);
  trigger(what);
}

// What a run has come to: its loss, and how it ended if not as it should.
function outcome({ state, loss, measured }) {
  const said = STATES[state] ? [el("span", { class: `state ${state}`, text: STATES[state] })] : [];
  if (loss !== null && state !== "diverged") said.unshift(`${measured ? "" : "≈ "}${loss.toFixed(3)} `);
  return said;
}

const rows = new Map(); // By the ids of the runs: what is drawn of each, and the cells that change as it learns.

// The rows of a run. They stay while it learns, so that a press on one of them is not lost.
function rowsOf(run, isChosen) {
  const { id, name, number, differs, state, error } = run;
  const shape = JSON.stringify([name, number, differs, state, error, isChosen]);
  if (rows.get(id)?.shape !== shape) {
    const cells = ["validation loss", "steps", "time"].map((label) => el("td", { "data-label": label }));
    const row = runRow(run, isChosen, cells);
    rows.set(id, { shape, cells, nodes: isChosen ? [row, actions(run)] : [row] });
  }
  const { cells, nodes } = rows.get(id);
  const [loss, steps, time] = cells;
  loss.replaceChildren(...outcome(run));
  steps.textContent = count(run.step);
  time.textContent = duration(run.seconds);
  return nodes;
}

function runRow(run, isChosen, cells) {
  const onChart = check("", !hidden.has(run.id), (on) => {
    hidden[on ? "delete" : "add"](run.id);
    drawChart();
  });
  onChart.querySelector("input").setAttribute("aria-label", `${run.name} on the chart`);
  onChart.append(badges.badge(run.number));
  const name = el(
    "button",
    { type: "button", class: "name", "aria-pressed": `${isChosen}`, onclick: () => ask("select", run.id) },
    el("bdi", { text: run.name }),
  );
  const differs = run.differs && run.differs !== run.name;
  return el(
    "tr",
    { "data-run": run.id, class: isChosen ? "chosen" : "" },
    el("td", {}, onChart),
    el("th", { scope: "row" }, name, differs ? el("span", { class: "differs hint", text: run.differs }) : ""),
    ...cells,
  );
}

// What can be done with the chosen run, in a row of its own below it.
function actions({ id, name, error, state }) {
  const button = (text, what, wanted = id) =>
    el("button", {
      type: "button",
      text,
      "aria-label": `${text}: ${name}`,
      onclick: () => ask(what, wanted),
    });
  return el(
    "tr",
    { class: "actions" },
    el("td"),
    el(
      "td",
      { colspan: 4 },
      state === "failed" || state === "diverged" ? el("p", { class: "hint", text: error }) : "",
      el(
        "div",
        { class: "buttons" },
        button("Repeat with one change", "edit"),
        button("CSV", "download", `${id} csv`),
        button("JSON", "download", `${id} json`),
        button("Remove", "delete"),
      ),
    ),
  );
}

// Where the keyboard is in the list, so that it is there again once the list is drawn anew.
function keepFocus(draw) {
  const inside = body.contains(document.activeElement);
  const all = () => [...body.querySelectorAll("input, button")];
  const label = (node) => node.getAttribute("aria-label") ?? node.textContent;
  const at = inside ? label(document.activeElement) : "";
  draw();
  if (!inside) return;
  const same = all().find((node) => label(node) === at) ?? body.querySelector(".chosen button");
  same?.focus({ preventScroll: true });
}

function drawList({ runs: listed, chosen }) {
  const ids = new Set(listed.map(({ id }) => id));
  for (const id of rows.keys()) if (!ids.has(id)) rows.delete(id);
  const nodes = listed.flatMap((run) => rowsOf(run, run.id === chosen));
  const stay = nodes.length === body.children.length && nodes.every((node, i) => node === body.children[i]);
  if (!stay) body.replaceChildren(...nodes);
  const differ = listed.length > 1 ? "below each name is what differs between them" : "";
  table.caption.textContent = `${many(listed.length, "run")}${differ && `; ${differ}`}. ≈ is an estimate.`;
}

function drawVerdict({ said, right, of }) {
  const counted = of > 1 ? ` ${right} of your ${of} guesses were right.` : "";
  const text = said ? said + counted : "";
  if (verdict.textContent !== text) verdict.textContent = text;
  verdict.hidden = !text;
}

function drawBelow({ runs: listed, chosen }) {
  below.hidden = listed.length < 2;
  const { number, name } = listed.find(({ id }) => id === chosen);
  below.replaceChildren(
    "Below, how ",
    badges.badge(number),
    " ",
    el("b", { text: name }),
    " learned. Choose another in the list to see how that one did.",
  );
}

const shownRuns = () => props.value.runs.filter(({ id }) => !hidden.has(id));

// The losses to compare with: those of the first run's text.
function linesFor(shown) {
  const rung = props.value.rungs.find(({ name }) => name === looked.rung);
  const text = shown.find(({ baselines }) => Object.keys(baselines).length)?.baselines ?? {};
  const lines = Object.entries(text).map(([name, loss]) => ({
    name: axes.BASELINES[name],
    loss,
    at: name === "uniform" ? "end" : "start",
  }));
  return [...(looked.baselines ? lines : []), ...(rung ? linesOf(rung) : [])];
}

function linesOf({ title, loss, lecture }) {
  const told = lecture === null ? [] : [{ name: "the lecture’s", loss: lecture, at: "end" }];
  return [{ name: title, loss, at: "middle" }, ...told];
}

// The ladder was climbed with Tiny Shakespeare: of another text it tells nothing.
function drawRungs(known, listed) {
  rungs.hidden = !known.length || listed.some(({ text }) => text);
  if (rungs.hidden) looked.rung = rungs.value = "";
  if (rungs.options.length === known.length + 1) return;
  rungs.replaceChildren(
    el("option", { value: "", text: "no rung of the ladder" }),
    ...known.map(({ name, title }) => el("option", { value: name, text: title })),
  );
}

function tell({ run, kind }, { step, seconds, loss }) {
  const chars = count(step * run.chars_per_step);
  return (
    `${run.number}, “${run.name}”, after ${many(step, "step")}, ${chars} characters, ${duration(seconds)}: ` +
    `${kind === "val" ? "validation" : "training"} loss ${loss.toFixed(3)}.`
  );
}

function point(key) {
  pointed = key;
  const found = chart.mark(key);
  if (found && say.textContent !== found.told) say.textContent = found.told;
}

function drawChart() {
  if (!props.value?.runs?.length || !box.clientWidth) return;
  if (chart?.dragging()) {
    late = true;
    return;
  }
  late = false;
  const focused = box.contains(document.activeElement);
  const shown = shownRuns();
  const options = { ...looked, kinds: [...looked.kinds], runs: shown, lines: linesFor(shown) };
  chart = runChart(
    { ...options, width: box.clientWidth, zoomed },
    { tell, point, zoom, rest: () => late && drawChart() },
  );
  box.replaceChildren(chart.picture);
  const found = chart.mark(pointed);
  if (found && focused) found.circle.focus({ preventScroll: true });
  const told = found?.told ?? "Point at a curve to read it; draw a rectangle to enlarge it.";
  if (say.textContent !== told) say.textContent = told;
  all.disabled = zoomed === null;
}

function draw() {
  const v = props.value;
  if (!v?.runs?.length) {
    root.replaceChildren();
    return;
  }
  if (!panel.isConnected) root.replaceChildren(panel);
  keepFocus(() => drawList(v));
  drawVerdict(v.guesses);
  drawBelow(v);
  drawRungs(v.rungs, v.runs);
  drawChart();
}

new ResizeObserver(drawChart).observe(box);
watch("value", draw);
draw();
