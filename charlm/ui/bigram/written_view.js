// What was written by walking the table, a step at a time: each step begins on the row of the character before.
const { el, glyph, glyphs, percent, walk, bigram } = window.charlm;
const root = element.querySelector(".written_view");
const PAUSE = 250;

const line = el("div", { class: "steps", role: "list", translate: "no" });
const say = el("p", { class: "say", role: "status" });
let steps = [];
let timer = null;
const { begin } = walk(line, ".step", (_, i) => {
  stop();
  explain(i);
});

function stop() {
  clearInterval(timer);
  for (const node of line.children) node.classList.remove("unwritten");
}

function light(i) {
  [...line.children].forEach((node, j) => {
    node.classList.toggle("target", j === i);
  });
  bigram.point(steps[i].before, steps[i].char);
}

function explain(i) {
  const { before, char, prob, uniform } = steps[i];
  light(i);
  say.replaceChildren(
    `Step ${i + 1}: the row of `,
    glyphs(before),
    " gives ",
    glyphs(char),
    ` ${percent(prob)} at temperature ${props.value.temperature}; the random number ${uniform.toFixed(3)} chose it.`,
  );
}

// Shows one step after another, or all at once to whoever wants no motion.
function play() {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  let written = 0;
  const next = () => {
    if (!line.isConnected || written === steps.length) return stop();
    line.children[written].classList.remove("unwritten");
    light(written++);
  };
  for (const node of line.children) node.classList.add("unwritten");
  next();
  timer = setInterval(next, PAUSE);
}

function draw() {
  stop();
  steps = props.value?.steps ?? [];
  root.replaceChildren();
  if (!steps.length) return;
  const step = ({ char }) => el("span", { class: "step", role: "listitem" }, glyph(char));
  line.replaceChildren(...steps.map(step));
  begin(0);
  say.replaceChildren(
    "Each character comes from the row of the one before it: point at one. From ",
    glyphs(steps[0].before),
    " it wrote: ",
    glyphs(steps.map(({ char }) => char).join("")),
  );
  root.replaceChildren(line, say);
  play();
}
watch("value", draw);
draw();
