// What is set, how large the model will be and about how long its training will take, or why it cannot be trained so.
const { el, count, many, duration } = window.charlm;
const root = element.querySelector(".forecast_view");

function forecast({ set, parameters, steps, seconds, cut, longest }) {
  const learned = many(Math.round(steps), "step");
  return el(
    "p",
    { role: "status" },
    el("b", { class: "set", text: set }),
    ": ",
    el("b", { text: count(parameters) }),
    " parameters, about ",
    el("b", { text: learned }),
    " in ",
    el("b", { text: duration(seconds) }),
    " on this machine, if it is free, with starting and measuring.",
    cut ? ` Learning ends after ${duration(longest)}, whatever was asked for.` : "",
  );
}

function draw() {
  const v = props.value;
  if (!v) return;
  root.replaceChildren(v.error ? el("p", { class: "note", role: "status", text: v.error }) : forecast(v));
}
watch("value", draw);
draw();
