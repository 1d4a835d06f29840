// Gradio opens a list again at the Tab key by which one leaves it, and then it stays open: the key is kept from
// it. The focus moves on as ever.
document.addEventListener(
  "keydown",
  (event) => {
    if (event.key === "Tab" && event.target.role === "combobox") event.stopPropagation();
  },
  true,
);
