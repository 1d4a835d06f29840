// Where the run stands.
const { el, count, duration } = window.charlm;
const root = element.querySelector(".progress_view");
const INVITATION =
  "Press Train: the loss, the samples and the attention of your model appear here while it learns.";

const SENTENCES = {
  queued: ({ place }) => `Waiting: ${place === 1 ? "next" : `number ${place}`} in line.`,
  running: ({ step, chars_per_second, seconds, done }) => {
    if (!step) return "Starting …";
    const left = done > 0.01 ? `, ${duration((seconds * (1 - done)) / done)} left` : "";
    const speed = count(Math.round(chars_per_second));
    return `Learning: step ${count(step)}, ${speed} characters per second${left}.`;
  },
  done: ({ step, seconds }) =>
    `Done after ${duration(seconds)} and ${count(step)} steps: find it in the model list of every tab.`,
  stopped: ({ step }) =>
    step
      ? `Stopped at step ${count(step)}: what it has learned is kept, in the model list of every tab.`
      : "Stopped before it began.",
  failed: ({ error }) => error,
};

function draw() {
  const v = props.value;
  if (!v) {
    root.replaceChildren(el("p", { class: "hint", text: INVITATION }));
    return;
  }
  root.replaceChildren(
    el("p", { role: "status", "data-state": v.state }, el("b", { text: v.name }), " ", SENTENCES[v.state](v)),
    el("div", { class: "progress" }, el("span", { class: "bar", style: `width:${100 * v.done}%` })),
  );
}
watch("value", draw);
draw();
