// Two texts, and a table that says at which character, after which block, the model holds what makes it go on
// with the one unlike the other; and the three guesses of the cell that is chosen.
const { el, glyphs, spoken, heat, scale, percent, walk, asker, distributions } = window.charlm;
const root = element.querySelector(".patching_view");
const MOST = 32; // Characters.
const PAIRS = [
  ["What thou ha", "What they ha"],
  ["the king", "the wing"],
  ["KING RICH", "KING HENR"],
];
const TINT = 0.9;
const LEAST = 0.05; // What a cell shows as a number.

let table = null; // What the server told of two texts,
let texts = []; // the characters of both,
let chosen = null; // and of one of their cells.

const heading = el("h2", { text: "Two texts" });
const lead = el("p", {
  class: "hint",
  text: "Two texts that differ a little, and go on differently: where does the model keep the difference? To find out, it reads the first text, but at one place, one character after one block, it is given the row of the second text. If it now goes on like the second, the difference was there. This is done for every place in turn.",
});
const boxes = ["First text", "Second text"].map((name, i) =>
  el("input", { type: "text", "aria-label": name, value: PAIRS[0][i], maxlength: MOST, spellcheck: "false" }),
);
const form = el(
  "form",
  { class: "pair", onsubmit: submit },
  ...boxes,
  el("button", { type: "submit", text: "Compare" }),
);
const others = el(
  "p",
  { class: "others" },
  "Examples: ",
  ...PAIRS.map(([first, second]) =>
    el(
      "button",
      { type: "button", onclick: () => example([first, second]) },
      el("bdi", { translate: "no", text: `${first} / ${second}` }),
    ),
  ),
);
const told = el("p", { class: "told", role: "status" });
const key = scale(
  "What returns of the second text's prediction:",
  [-1, -0.5, 0, 0.5, 1].map((x) => [signedPercent(x), heat(TINT * x)]),
);
const grid = el("div", { class: "grid", role: "group", "aria-label": "How much returns, cell by cell" });
const scroller = el("div", { class: "scroller" }, grid);
const say = el("p", { class: "say", role: "status" });
const chart = el("div");
const formula = el("p", {
  class: "hint",
  text: "Measured by d, the score of the character that gains most less the score of the one that loses most: (d with the row given − d of the first text) / (d of the second − d of the first). A cell may lie beyond 0 % or 100 %. (Activation patching; Meng et al., 2022.)",
});
const answer = el(
  "div",
  { class: "answer columns" },
  el("section", {}, told, scroller, key),
  el("section", {}, say, chart),
  formula,
);

function signedPercent(x) {
  return `${Math.round(100 * x)}\u00a0%`.replace("-", "−");
}

const askTable = asker(root, (asked) => server.compare(asked), tellTable);
const askCell = asker(root, (asked) => server.compare(asked), tellCell);

function again() {
  const { model, edits } = props.value;
  const [first, second] = boxes.map((box) => box.value);
  askTable({ model, edits, first, second });
}

function submit(event) {
  event.preventDefault();
  again();
}

function example(pair) {
  boxes.forEach((box, i) => {
    box.value = pair[i];
  });
  again();
}

const isShown = ({ model, edits }) => model === props.value?.model && edits === props.value?.edits;

function tellTable(found, asked) {
  if (!isShown(asked)) return;
  table = found.error ? null : found;
  told.textContent = found.error ?? "";
  for (const part of [scroller, key, say, chart, formula]) part.hidden = !table;
  if (!table) return;
  texts = [[...table.first], [...table.second]];
  drawGrid();
  tellRoute();
  showCell(table.cell);
}

function tellCell(found, asked) {
  if (!table || !isShown(asked) || asked.first !== table.first || asked.second !== table.second) return;
  if (found.error) say.textContent = found.error;
  else showCell(found);
}

// The character at a place: both, where the texts differ.
function charAt(i) {
  const [a, b] = texts.map((text) => text[i]);
  return a === b ? glyphs(a) : el("span", {}, glyphs(a), "/", glyphs(b));
}
function spokenAt(i) {
  const [a, b] = texts.map((text) => spoken(text[i]));
  return a === b ? a : `${a} or ${b}`;
}

function cell(returned, layer, position) {
  return el("button", {
    type: "button",
    class: "cell",
    "data-layer": layer,
    "data-position": position,
    "aria-label": `After ${table.rows[layer]}, at ${spokenAt(position)} (${position}): ${signedPercent(returned)}`,
    "aria-pressed": "false",
    style: `background: ${heat(TINT * returned)}`,
    text: Math.abs(returned) < LEAST ? "" : signedPercent(returned).slice(0, -2),
  });
}

function drawGrid() {
  const [first, second] = texts;
  grid.style.setProperty("--columns", first.length);
  const heads = (text, other) =>
    text.map((char, i) =>
      el(
        "span",
        { class: `char ${char === other[i] ? "" : "differs"}`, "aria-hidden": "true" },
        glyphs(char),
      ),
    );
  const name = (text) => el("span", { class: "row-name", text });
  grid.replaceChildren(
    name("first text"),
    ...heads(first, second),
    name("second text"),
    ...heads(second, first),
    ...table.rows.flatMap((row, layer) => [
      name(row),
      ...table.returned[layer].map((x, position) => cell(x, layer, position)),
    ]),
  );
}

function rowsOf({ begin, end }) {
  const { rows } = table;
  return begin === end ? `after ${rows[begin]}` : `from ${rows[begin]} to ${rows[end]}`;
}

// What both texts are continued with, and where most of the difference is from row to row.
function tellRoute() {
  const [loses, gains] = table.measured;
  const goesOn = (text, { char, ps }, i) => [
    el("code", {}, glyphs(text)),
    " with ",
    el("b", {}, glyphs(char)),
    ` (${percent(ps[i])}; after the other text ${percent(ps[1 - i])})`,
  ];
  told.replaceChildren(
    "The model goes on after ",
    ...goesOn(table.first, loses, 0),
    ", and after ",
    ...goesOn(table.second, gains, 1),
    ". Most returns ",
    ...table.route.flatMap((leg, k) => [
      k ? "; " : "",
      `${rowsOf(leg)} at `,
      el("b", {}, charAt(leg.position)),
      ` (${leg.position})`,
    ]),
    ".",
  );
}

function showCell({ layer, position, bars }) {
  chosen = { layer, position };
  const cells = [...grid.querySelectorAll(".cell")];
  for (const node of cells) {
    const isChosen = +node.dataset.layer === layer && +node.dataset.position === position;
    node.classList.toggle("target", isChosen);
    node.setAttribute("aria-pressed", isChosen);
  }
  const at = layer * texts[0].length + position;
  if (!grid.contains(document.activeElement)) cellWalk.begin(at);
  tellPlace(layer, position);
  reveal(cells[at]);
  const series = [
    [glyphs(table.first), "before"],
    [glyphs(table.second), "second"],
    ["the first, with one row of the second", "after"],
  ];
  chart.replaceChildren(distributions(series, bars));
}

// Scrolls the table, not the page.
function reveal(node) {
  const [box, view] = [node.getBoundingClientRect(), scroller.getBoundingClientRect()];
  const names = grid.firstChild.offsetWidth;
  if (box.left < view.left + names) scroller.scrollLeft -= view.left + names - box.left;
  if (box.right > view.right) scroller.scrollLeft += box.right - view.right;
}

// The sentence on a cell.
function tellPlace(layer, position) {
  say.replaceChildren(
    "With the second text's row at ",
    charAt(position),
    ` (${position}) after ${table.rows[layer]}, ${signedPercent(table.returned[layer][position])} of its prediction returns.`,
  );
}

function point(node) {
  if (table) tellPlace(+node.dataset.layer, +node.dataset.position);
}

function comeBack() {
  const focused = document.activeElement.closest?.(".cell");
  if (grid.contains(focused)) point(focused);
  else if (table && chosen) tellPlace(chosen.layer, chosen.position);
}

function draw() {
  const v = props.value;
  table = null;
  if (!v?.model || v.why) {
    root.replaceChildren(...(v?.why ? [heading, el("p", { class: "hint", text: v.why })] : []));
    return;
  }
  if (!form.isConnected) {
    told.textContent = "Comparing …";
    for (const part of [scroller, key, say, chart, formula]) part.hidden = true;
    root.replaceChildren(heading, lead, form, others, answer);
  }
  again();
}

let drawn = null; // For which model.
function follow() {
  const now = JSON.stringify(props.value ?? {});
  if (now === drawn) return;
  drawn = now;
  draw();
}

const cellWalk = walk(grid, ".cell", point);
grid.addEventListener("pointerleave", comeBack);
grid.addEventListener("focusout", comeBack);
grid.addEventListener("click", ({ target }) => {
  const node = target.closest(".cell");
  if (!node || !table) return;
  const { model, edits } = props.value;
  const { first, second } = table;
  askCell({
    model,
    edits,
    first,
    second,
    layer: +node.dataset.layer,
    position: +node.dataset.position,
  });
});
watch("value", follow);
follow();
