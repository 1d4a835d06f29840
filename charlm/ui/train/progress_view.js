// Where the run stands.
const { el, duration } = window.charlm;
const root = element.querySelector(".progress_view");

function draw() {
  const v = props.value;
  if (!v) return root.replaceChildren(el("p", { class: "hint", text: "Press Train: the loss, the samples and the attention of your model appear here while it learns." }));
  const left = v.done > 0.01 ? `, ${duration((v.seconds * (1 - v.done)) / v.done)} left` : "";
  const facts = `step ${v.step.toLocaleString("en")}, ${Math.round(v.chars_per_second).toLocaleString("en")} characters per second`;
  const says = {
    queued: `Waiting: ${v.place === 1 ? "next" : `number ${v.place}`} in line.`,
    running: v.step ? `Learning: ${facts}${left}.` : "Starting …",
    done: `Done after ${duration(v.seconds)} and ${v.step.toLocaleString("en")} steps: find it in the model list of every tab.`,
    stopped: v.step ? `Stopped at step ${v.step.toLocaleString("en")}: what it has learned is kept, in the model list of every tab.` : "Stopped before it began.",
    failed: v.error,
  };
  root.replaceChildren(
    el("p", { role: "status", "data-state": v.state }, el("b", { text: v.name }), " ", says[v.state]),
    el("div", { class: "progress" }, el("span", { class: "bar", style: `width:${100 * v.done}%` })));
}
watch("value", draw);
draw();
