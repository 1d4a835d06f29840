// Small multiples of every head; the open one as scores → mask → softmax, linked; and the text, tinted by who
// is looked at.
const { MAX_LABELS, el, glyph, glyphs, bytes, floats, heat, thumbnail, heatMap } = window.charlm;
const root = element.querySelector(".attention_view");

let chars = [];
let chosen = { layer: -1, head: 0 };
let numbers = null;
let maps = [];

const tiles = el("div", { class: "tiles" });
const heading = el("h3");
const textView = el("div", { class: "text", id: "attention-chars", translate: "no" });
const say = el("p", { class: "say", role: "status" });
const panes = el("div", { class: "panes" });
root.append(
  el(
    "div",
    { class: "look" },
    el("section", {}, el("h3", { text: "Every layer and head" }), tiles),
    el("section", {}, heading, textView, say),
  ),
  panes,
);

const nameOf = (layer, head) => (layer < 0 ? "All heads, averaged" : `Layer ${layer + 1}, head ${head + 1}`);

function tile(size, weights, layer, head) {
  const attributes = {
    type: "button",
    class: "tile",
    title: nameOf(layer, head),
    "data-head": `${layer}-${head}`,
    onclick: () => openHead(layer, head),
  };
  return el(
    "button",
    attributes,
    thumbnail(size, bytes(weights), { "aria-hidden": "true" }),
    el("span", { text: layer < 0 ? "average" : `${layer + 1}·${head + 1}` }),
  );
}

function drawTiles({ tiles: weights, tile_size, n_layer, n_head }) {
  const heads = el("div", { class: "heads", style: `--heads: ${n_head}` });
  for (let layer = 0; layer < n_layer; layer++)
    for (let head = 0; head < n_head; head++)
      heads.append(tile(tile_size, weights[1 + layer * n_head + head], layer, head));
  tiles.replaceChildren(tile(tile_size, weights[0], -1, 0), heads);
}

async function openHead(layer, head) {
  const { id, model, text } = props.value;
  const answer = await server.head_maps({ model, text, layer, head });
  if (id !== props.value.id) return;
  if (answer.error) {
    say.textContent = answer.error;
    return;
  }
  chosen = { layer, head };
  numbers = { weights: floats(answer.weights), scores: answer.scores && floats(answer.scores) };
  for (const t of tiles.querySelectorAll(".tile"))
    t.classList.toggle("chosen", t.dataset.head === `${layer}-${head}`);
  heading.textContent = `${nameOf(layer, head)}: point at a character to see where it looks`;
  drawMaps();
  look(chars.length - 1, null);
}

function drawMaps() {
  const { weights, scores } = numbers;
  const T = chars.length;
  // Where not every character has room for its label, positions say more.
  const labels = T <= MAX_LABELS ? chars : [...chars.keys()];
  const map = (name, caption, heatAt) => heatMap({ name, caption, labels, heatAt, point: look });
  maps = [];
  if (scores) {
    const largest = scores.reduce((most, score) => Math.max(most, Math.abs(score)), 1e-9);
    const future = (i) => i % T > Math.floor(i / T);
    maps.push(
      map("scores", "q·k/√d", (i) => scores[i] / largest),
      map("masked", "the future is −∞", (i) => (future(i) ? null : scores[i] / largest)),
    );
  }
  maps.push(
    map("weights", scores ? "softmax of each row" : "mean of all heads", (i) => Math.sqrt(weights[i])),
  );
  panes.replaceChildren(...maps.map((m) => m.figure));
}

// Shows where character i looks. Character j, if given, is the one pointed at.
function look(i, j) {
  if (!numbers) return;
  const row = numbers.weights.subarray(i * chars.length, (i + 1) * chars.length);
  tint(i, row);
  for (const map of maps) map.mark(i, j);
  const sum = row.reduce((total, weight) => total + weight, 0).toFixed(3);
  say.replaceChildren(...(j === null ? mostLookedAt(i, row) : pair(i, j)), ` The row sums to ${sum}.`);
}

function tint(i, row) {
  [...textView.children].forEach((node, t) => {
    node.style.background = t < i ? heat(Math.sqrt(row[t])) : "";
    node.title = t <= i ? `weight ${row[t].toFixed(4)}` : "in the future: weight 0";
    node.classList.toggle("target", t === i);
    node.classList.toggle("future", t > i);
  });
}

const called = (t) => [glyphs(chars[t]), ` (${t})`];

function mostLookedAt(i, row) {
  const past = [...row.keys()].slice(0, i + 1);
  const most = past.sort((a, b) => row[b] - row[a]).slice(0, 3);
  const list = most.flatMap((t, k) => [k ? ", " : "", ...called(t), `: ${row[t].toFixed(3)}`]);
  return [...called(i), " looks most at ", ...list, "."];
}

function pair(i, j) {
  const { weights, scores } = numbers;
  const at = i * chars.length + j;
  const score = scores ? `score ${scores[at].toFixed(3)}, ` : "";
  const masked = j > i ? "masked: −∞, " : "";
  const weight = `weight ${weights[at].toFixed(4)}.`;
  return [...called(i), " looking at ", ...called(j), `: ${score}${masked}${weight}`];
}

function character(char, i) {
  const show = () => look(i, null);
  const content = { " ": " ", "\n": "↵\n" }[char] ?? glyph(char);
  return el("span", { class: "ch", "data-i": i, onpointerenter: show, onclick: show }, content);
}

function draw() {
  const v = props.value;
  if (!v?.id) return;
  chars = [...v.text];
  numbers = null;
  textView.replaceChildren(...chars.map(character));
  drawTiles(v);
  const stillThere = chosen.layer < v.n_layer && chosen.head < v.n_head;
  openHead(stillThere ? chosen.layer : -1, stillThere ? chosen.head : 0);
}
watch("value", draw);
draw();
