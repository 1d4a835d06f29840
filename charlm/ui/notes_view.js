// Sentences on what could not be shown as asked.
const { el } = window.charlm;
const root = element.querySelector(".notes_view");
const draw = () => root.replaceChildren(...(props.value ?? []).map((note) => el("p", { class: "note", role: "status", text: note })));
watch("value", draw);
draw();
