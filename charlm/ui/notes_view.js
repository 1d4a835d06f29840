// Sentences on what could not be shown as asked.
const { el } = window.charlm;
const root = element.querySelector(".notes_view");

function draw() {
  const notes = props.value ?? [];
  root.replaceChildren(...notes.map((text) => el("p", { class: "note", role: "status", text })));
}
watch("value", draw);
draw();
