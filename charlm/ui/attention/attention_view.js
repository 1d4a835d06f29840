// Small multiples of every head; the open one as scores → mask → softmax, linked; and the text, tinted by who is looked at.
const { el, visible, rgb, paint, bytes } = window.charlm;
const root = element.querySelector(".attention_view");
const floats = (text) => new Float32Array(bytes(text).buffer);

let chosen = [-1, 0];
let maps = null;
let T = 0;
let chars = [];

const tiles = el("div", { class: "tiles" });
const heading = el("h3");
const panes = el("div", { class: "panes" });
const say = el("p", { class: "say", role: "status" });
const textView = el("div", { class: "attention-text", id: "attention-chars" });
root.append(
  el("div", { class: "attention-look" },
    el("section", {}, el("h3", { text: "Every layer and head" }), tiles),
    el("section", {}, heading, textView, say)),
  panes);

const nameOf = ([layer, head]) => (layer < 0 ? "All heads, averaged" : `Layer ${layer + 1}, head ${head + 1}`);

// A weight is drawn with the square root of its size as opacity, so that small ones can be seen too.
function drawTiles(v) {
  const { positive } = rgb(root);
  const tile = (values, layer, head) => {
    const canvas = el("canvas", { "aria-hidden": true });
    const data = bytes(values);
    paint(canvas, v.tile_size, (i) => Math.sqrt(data[i] / 255), () => positive);
    return el("button", { type: "button", class: "tile", "data-head": `${layer}-${head}`, title: nameOf([layer, head]), onclick: () => open(layer, head) },
      canvas, el("span", { text: layer < 0 ? "average" : `${layer + 1}·${head + 1}` }));
  };
  const heads = el("div", { class: "heads", style: `--heads: ${v.n_head}` });
  for (let l = 0; l < v.n_layer; l++)
    for (let h = 0; h < v.n_head; h++) heads.append(tile(v.tiles[1 + l * v.n_head + h], l, h));
  tiles.replaceChildren(tile(v.tiles[0], -1, 0), heads);
}

async function open(layer, head) {
  const v = props.value;
  const answer = await server.head_maps({ model: v.model, text: v.text, layer, head });
  if (v.id !== props.value.id) return;
  if (answer.error) return (say.textContent = answer.error);
  chosen = [layer, head];
  maps = { weights: floats(answer.weights), scores: answer.scores && floats(answer.scores) };
  tiles.querySelectorAll(".tile").forEach((t) => t.classList.toggle("chosen", t.dataset.head === `${layer}-${head}`));
  heading.textContent = `${nameOf(chosen)}: point at a character to see where it looks`;
  drawMaps();
  look(T - 1, null);
}

function heatMap(name, caption, opacityAt, colourAt) {
  const canvas = el("canvas", { class: "map", "data-map": name });
  paint(canvas, T, opacityAt, colourAt);
  const cross = el("div", { class: "cross" });
  const board = el("div", { class: "board" }, canvas, cross);
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    const place = (x) => Math.max(0, Math.min(T - 1, Math.floor(x * T)));
    look(place((event.clientY - box.top) / box.height), place((event.clientX - box.left) / box.width));
  };
  board.addEventListener("pointermove", at);
  board.addEventListener("pointerdown", at);
  // The characters where there is room for them, else every second, fifth, … position.
  const step = [1, 2, 5, 10, 20, 50].find((s) => T / s <= 32) ?? 100;
  const labels = (side) => el("div", { class: `labels ${side}` }, ...chars.flatMap((c, i) =>
    i % step ? [] : [el("span", { style: `${side === "top" ? "left" : "top"}:${(100 * (i + 0.5)) / T}%`, text: step === 1 ? visible(c) : i })]));
  return el("figure", { class: "map-figure" }, el("figcaption", {}, el("b", { text: name }), ` ${caption}`), labels("top"), labels("left"), board);
}

function drawMaps() {
  const { positive, negative, ink } = rgb(root);
  const { weights, scores } = maps;
  const future = (i) => i % T > Math.floor(i / T);
  const figures = [];
  if (scores) {
    const largest = scores.reduce((m, s) => Math.max(m, Math.abs(s)), 1e-9);
    const colour = (i) => (scores[i] < 0 ? negative : positive);
    const opacity = (i) => Math.abs(scores[i]) / largest;
    figures.push(
      heatMap("scores", "q·k/√d", opacity, colour),
      heatMap("masked", "the future is −∞", (i) => (future(i) ? 0.12 : opacity(i)), (i) => (future(i) ? ink : colour(i))));
  }
  figures.push(heatMap("weights", scores ? "softmax of each row" : "mean of all heads", (i) => Math.sqrt(weights[i]), () => positive));
  panes.replaceChildren(...figures);
}

// Shows row i: where character i looks. Column j, if given, is the character pointed at.
function look(i, j) {
  if (!maps) return;
  const { weights, scores } = maps;
  const row = weights.subarray(i * T, (i + 1) * T);
  [...textView.children].forEach((node, t) => {
    node.style.background = t <= i ? `color-mix(in srgb, var(--positive) ${(75 * Math.sqrt(row[t])).toFixed(1)}%, transparent)` : "";
    node.classList.toggle("target", t === i);
    node.classList.toggle("future", t > i);
    node.title = t <= i ? `weight ${row[t].toFixed(4)}` : "in the future: weight 0";
  });
  panes.querySelectorAll(".cross").forEach((cross) => {
    cross.style.top = `${(100 * i) / T}%`;
    cross.style.height = `${100 / T}%`;
    cross.style.setProperty("--column", j === null ? "none" : "block");
    cross.style.setProperty("--left", `${(100 * (j ?? 0)) / T}%`);
    cross.style.setProperty("--width", `${100 / T}%`);
    cross.style.setProperty("--up", `${-100 * i}%`);
    cross.style.setProperty("--tall", `${100 * T}%`);
  });
  const sum = row.reduce((s, w) => s + w, 0).toFixed(3);
  const who = (t) => `${visible(chars[t])} (${t})`;
  if (j === null) {
    const best = [...row.keys()].slice(0, i + 1).sort((a, b) => row[b] - row[a]).slice(0, 3);
    say.textContent = `${who(i)} looks most at ${best.map((t) => `${who(t)}: ${row[t].toFixed(3)}`).join(", ")}. The row sums to ${sum}.`;
  } else {
    const score = scores ? `score ${scores[i * T + j].toFixed(3)}, ` : "";
    const masked = j > i ? "masked: −∞, " : "";
    say.textContent = `${who(i)} looking at ${who(j)}: ${score}${masked}weight ${row[j].toFixed(4)}. The row sums to ${sum}.`;
  }
}

function draw() {
  const v = props.value;
  if (!v?.id) return;
  chars = [...v.text];
  T = chars.length;
  textView.replaceChildren(...chars.map((c, i) =>
    el("span", { class: "ch", "data-i": i, text: c === "\n" ? "↵\n" : c, onpointerenter: () => look(i, null), onclick: () => look(i, null) })));
  drawTiles(v);
  const [layer, head] = chosen;
  open(...(layer < v.n_layer && head < v.n_head ? [layer, head] : [-1, 0]));
}
watch("value", draw);
draw();
