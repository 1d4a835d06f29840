// How large the model will be and about how long it will take.
const { el, duration } = window.charlm;
const root = element.querySelector(".forecast_view");

function draw() {
  const v = props.value;
  if (!v) return;
  root.replaceChildren(v.error
    ? el("p", { class: "note", role: "status", text: v.error })
    : el("p", { role: "status" }, el("b", { text: v.parameters.toLocaleString("en") }), " parameters, about ",
      el("b", { text: `${Math.round(v.steps).toLocaleString("en")} steps` }), " in ", el("b", { text: duration(v.seconds) }), " on this machine, if it is free."));
}
watch("value", draw);
draw();
