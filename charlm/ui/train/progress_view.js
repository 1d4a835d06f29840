// Where the run stands. Only what it is doing is announced: the numbers change every second.
const { el, count, many, duration } = window.charlm;
const root = element.querySelector(".progress_view");
const INVITATION =
  "Press Train: the loss, the samples and the attention of your model appear here while it learns.";
const WHERE = "the model lists of the other tabs";

const DOING = {
  queued: ({ place }) => `Waiting: ${place === 1 ? "next" : `number ${place}`} in line.`,
  running: ({ step, done, stopping }) => {
    if (done >= 1 || stopping) return "Learning is over: measuring the losses on the validation split …";
    return step ? "Learning:" : "Starting …";
  },
  done: ({ step, seconds }) => `Done: ${many(step, "step")} in ${duration(seconds)}. Find it in ${WHERE}.`,
  stopped: ({ step }) =>
    step
      ? `Stopped at step ${count(step)}: what it has learned is kept, in ${WHERE}.`
      : "Stopped before it began.",
  failed: ({ error }) => error,
  diverged: ({ error }) => error,
};

function numbers({ state, step, done, stopping, chars_per_second, begins, ends, others }) {
  if (state === "queued")
    return ` It begins in about ${about(begins)}, and ends about ${about(ends - begins)} later.`;
  if (state !== "running" || !step) return "";
  const rest = `about ${about(ends)} left`;
  if (done >= 1 || stopping) return ` ${rest}.`;
  const learned = `step ${count(step)}, ${count(Math.round(chars_per_second))} characters per second`;
  const shared = others ? ` The machine is shared with ${many(others, "other run")}, in turns.` : "";
  return ` ${learned}, ${rest} with measuring.${shared}`;
}

const about = (seconds) => duration(Math.max(1, seconds));

const name = el("b");
const doing = el("span", { role: "status" });
const figures = el("span");
const bar = el("span", { class: "bar" });
const line = el("p", {}, name, " ", doing, figures);
const track = el(
  "div",
  { class: "progress", role: "progressbar", "aria-label": "How much is learned", "aria-valuemax": 100 },
  bar,
);
const panel = el("div", {}, line, track);

function draw() {
  const v = props.value;
  if (!v) {
    root.replaceChildren(el("p", { class: "hint", text: INVITATION }));
    return;
  }
  if (!panel.isConnected) root.replaceChildren(panel);
  line.dataset.state = v.state;
  name.textContent = v.name;
  const said = DOING[v.state](v);
  if (doing.textContent !== said) doing.textContent = said;
  figures.textContent = numbers(v);
  const percent = Math.round(100 * Math.min(1, v.done));
  bar.style.width = `${percent}%`;
  track.setAttribute("aria-valuenow", percent);
}
// A run may have been started from another window.
addEventListener("focus", () => {
  if (root.isConnected) trigger("click");
});
watch("value", draw);
draw();
