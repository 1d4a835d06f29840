// The ladder: a step for each rung, as long as its loss is high, and what is known of the one chosen.
const { el, svg, count, duration, walk, copy } = window.charlm;
const root = element.querySelector(".ladder_view");
const CURVE = { width: 340, height: 170, left: 36, right: 8, top: 10, bottom: 22 };
const [SHORTEST, LONGEST] = [0.67, 0.99]; // The steps of the least and the highest loss, of the whole width.

const rungs = props.value.rungs;
const losses = rungs.flatMap(({ loss, lecture }) => (lecture === null ? [loss] : [loss, lecture]));
const [least, most] = [Math.min(...losses), Math.max(...losses)];
let chosen = rungs.length - 1; // The rung that was clicked or reached by a key: the top one, until one is.
let told = null; // And the one that is told.

const ladder = el("div", {
  class: "ladder",
  role: "listbox",
  "aria-label": "The rungs, from the lowest up: loss, spread, change from the rung below",
});
const say = el("p", { class: "say", role: "status" });
const facts = el("div", { class: "facts" });
const train = el("button", {
  type: "button",
  class: "first",
  text: "Train it again",
  onclick: () => act("click"),
});
const play = el("button", { type: "button", text: "Play it →", onclick: () => act("select") });
const copying = el("button", { type: "button", text: "Copy the command", onclick: copyCommand });
const curve = el("div", { class: "small-curve" });
const sample = el("pre", { class: "page", translate: "no", tabindex: 0, role: "region" });

const share = (loss) => SHORTEST + ((LONGEST - SHORTEST) * (loss - least)) / (most - least || 1);
const nats = (loss) => loss.toFixed(3);
const spreadOf = ({ spread }) => (spread === null ? "one training" : `± ${nats(spread)}`);

function fallOf({ fall }) {
  if (fall === null) return "";
  return `${fall < 0 ? "+" : "−"}${nats(Math.abs(fall))}`;
}

function step(rung) {
  const lecture =
    rung.lecture === null ? [] : [el("span", { class: "lecture", style: `--share:${share(rung.lecture)}` })];
  const tread = el(
    "span",
    { class: "tread", style: `--share:${share(rung.loss)}` },
    el("b", { text: nats(rung.loss) }),
    " ",
    el("small", { text: spreadOf(rung) }),
    " ",
    el("span", { class: `fall${rung.fall < 0 ? " worse" : ""}`, text: fallOf(rung) }),
  );
  return el(
    "div",
    { class: "rung", role: "option", tabindex: -1, "aria-selected": "false", "data-rung": rung.name },
    el("span", { class: "title", text: rung.title }),
    " ",
    el("span", { class: "well" }, tread, ...lecture),
  );
}

function fact(name, ...value) {
  return [el("dt", { text: name }), el("dd", {}, ...value)];
}

function drawFacts(rung) {
  const { seconds, seeds, parameters, changes, command, lecture, playable } = rung;
  const which = seeds.length > 1 ? ` each, seeds ${seeds.join(", ")}` : `, seed ${seeds[0]}`;
  facts.replaceChildren(
    el(
      "dl",
      {},
      ...fact("Parameters", count(parameters)),
      ...fact("Trained", `${duration(seconds)}${which}`),
      ...(changes.length ? fact("Changed", changes.join(", ")) : []),
      ...(lecture === null ? [] : fact("The lecture", `about ${lecture.toFixed(2)} at this stage`)),
      ...(playable ? [] : fact("Weights", "too large to come along: train it to play it")),
      ...fact("Command", el("code", { text: command })),
    ),
  );
}

// The validation loss of each training, and the training loss, as it went on.
function drawCurve({ curves, title }) {
  const { width, height, left, right, top, bottom } = CURVE;
  // The first loss, of a model that knows nothing, would leave no room for the others.
  const shown = curves.map((points) => points.filter(([at]) => at > 0));
  const points = shown.flat();
  const [low, high] = [Math.min, Math.max].map((f) => f(...points.flatMap(([, a, b]) => [a, b])));
  const [first, last] = [points[0][0], points.at(-1)[0]];
  const x = (at) => left + ((at - first) / (last - first || 1)) * (width - left - right);
  const y = (loss) => top + ((high - loss) / (high - low || 1)) * (height - top - bottom);
  const line = (kind, of) => (points) =>
    svg("polyline", {
      class: kind,
      points: points.map((point) => `${x(point[0])},${y(point[of])}`).join(" "),
    });
  const drawn = svg("svg", {
    role: "img",
    "aria-label": `${title}: validation loss ${points[0][2].toFixed(2)} after ${count(first)} steps, ${points.at(-1)[2].toFixed(2)} after ${count(last)}.`,
    viewBox: `0 0 ${width} ${height}`,
  });
  drawn.append(
    ...shown.map(line("train", 1)),
    ...shown.map(line("val", 2)),
    svg("text", { x: left - 5, y: y(high) + 4, "text-anchor": "end" }, high.toFixed(2)),
    svg("text", { x: left - 5, y: y(low) + 4, "text-anchor": "end" }, low.toFixed(2)),
    svg("text", { x: left, y: height - 5 }, `step ${count(first)}`),
    svg("text", { x: width - right, y: height - 5, "text-anchor": "end" }, `step ${count(last)}`),
  );
  curve.replaceChildren(drawn);
}

function tell(i) {
  if (told === i) return;
  told = i;
  const rung = rungs[i];
  say.replaceChildren(
    el("b", { text: `${rung.title}. ` }),
    `${rung.added} `,
    `Validation loss ${nats(rung.loss)} ${rung.spread === null ? "" : spreadOf(rung)}`.trim(),
    `. ${rung.found}`,
  );
  drawFacts(rung);
  drawCurve(rung);
  sample.textContent = rung.sample;
  sample.setAttribute("aria-label", `What ${rung.title} writes`);
  train.hidden = !rung.trainable;
  play.hidden = !rung.playable;
  for (const [j, node] of [...ladder.children].entries()) node.setAttribute("aria-selected", i === j);
}

function choose(i) {
  chosen = i;
  walked.begin(i);
  tell(i);
}

function act(event) {
  window.charlm.ladder.choose(rungs[told].name);
  trigger(event);
}

async function copyCommand() {
  const copied = await copy(rungs[told].command);
  copying.textContent = copied ? "Copied" : "Not copied";
  setTimeout(() => {
    copying.textContent = "Copy the command";
  }, 1500);
}

const entry = (kind, text) => el("span", {}, el("span", { class: `key ${kind}` }), ` ${text}`);

function key() {
  return el("p", { class: "legend" }, entry("val", "validation loss"), entry("train", "training loss"));
}

function legend() {
  return el(
    "p",
    { class: "legend" },
    entry("val", "validation loss, in nats per character, and the change from the rung below"),
    entry("reference", "about what the lecture's model reaches"),
    el("span", {
      text: "±: the standard deviation of trainings that differ by the seed alone. Losses are of the whole validation split.",
    }),
  );
}

function draw() {
  ladder.replaceChildren(...rungs.map(step));
  root.replaceChildren(
    el("h2", { text: "The ladder" }),
    el("p", { class: "hint", text: props.value.summary }),
    ladder,
    legend(),
    say,
    el(
      "div",
      { class: "about" },
      el("section", {}, facts, el("div", { class: "buttons" }, train, play, copying)),
      el("section", {}, el("h3", { text: "As it learned" }), curve, key()),
      el("section", { class: "written" }, el("h3", { text: "What it writes" }), sample),
    ),
  );
}

const walked = walk(ladder, ".rung", (_, i) => tell(i));
for (const event of ["focusin", "click"])
  ladder.addEventListener(event, ({ target }) => {
    const node = target.closest(".rung");
    if (node) choose([...ladder.children].indexOf(node));
  });
ladder.addEventListener("pointerleave", () => tell(chosen));
if (rungs.length) {
  draw();
  choose(chosen);
}
