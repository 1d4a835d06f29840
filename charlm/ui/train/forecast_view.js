// How large the model will be and about how long it will take.
const { el, count, duration } = window.charlm;
const root = element.querySelector(".forecast_view");

function forecast({ parameters, steps, seconds }) {
  return el(
    "p",
    { role: "status" },
    el("b", { text: count(parameters) }),
    " parameters, about ",
    el("b", { text: `${count(Math.round(steps))} steps` }),
    " in ",
    el("b", { text: duration(seconds) }),
    " on this machine, if it is free.",
  );
}

function draw() {
  const v = props.value;
  if (!v) return;
  root.replaceChildren(v.error ? el("p", { class: "note", role: "status", text: v.error }) : forecast(v));
}
watch("value", draw);
draw();
