// The text, of which a character can be pointed at and pinned, with arcs to those that it looks at.
window.charlm.attendingText = ({ point, leave, choose }) => {
  const { el, svg, textBox, characters, walk, attending } = window.charlm;
  const { STEPS, tint } = attending;
  const box = textBox("The text: who looks where", { id: "attention-chars" });
  const arcs = svg("svg");
  const node = el("div", { class: "scroller" }, arcs, box);
  const items = () => [...box.querySelectorAll(".ch")];
  let shown = null;

  const steps = walk(box, ".ch", (_, i) => point(i));
  box.addEventListener("pointerleave", leave);
  box.addEventListener("focusout", ({ relatedTarget }) => {
    if (!box.contains(relatedTarget)) leave();
  });
  box.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    choose(shown.i);
  });
  box.addEventListener("click", ({ target }) => {
    const i = items().indexOf(target.closest(".ch"));
    if (i >= 0) choose(i);
  });
  new ResizeObserver(drawArcs).observe(node);

  function draw(text, pinned) {
    shown = null;
    arcs.replaceChildren();
    box.replaceChildren(...characters(text));
    steps.begin(pinned);
  }

  function pin(i) {
    items().forEach((item, t) => {
      item.classList.toggle("pinned", t === i);
      item.setAttribute("aria-selected", t === i);
    });
  }

  // Shows where character i looks, by the weights of its row; it can see the first `seen`. Character j, if not
  // null, is the one pointed at.
  function turn(i, j, row, seen) {
    shown = { i, row, seen };
    items().forEach((item, t) => {
      item.style.background = t < seen && t !== i ? tint(row[t]) : "";
      item.title = t < seen ? `weight ${row[t].toFixed(4)}` : "in the future: weight 0";
      item.classList.toggle("target", t === i);
      item.classList.toggle("lit-by-map", t === j && t !== i);
      item.classList.toggle("future", t >= seen);
    });
    drawArcs();
  }

  // Each arc is as thick and as opaque as its weight.
  function drawArcs() {
    arcs.replaceChildren();
    if (!shown || !node.offsetWidth) return;
    const { i, row, seen } = shown;
    arcs.setAttribute("width", box.offsetWidth);
    arcs.setAttribute("height", box.offsetHeight);
    const origin = box.getBoundingClientRect();
    const all = items();
    const place = (t) => {
      const { left, right, top } = all[t].getBoundingClientRect();
      return [(left + right) / 2 - origin.left, top - origin.top + 2];
    };
    const [x, y] = place(i);
    for (let t = 0; t < seen; t++) {
      if (t === i || row[t] < STEPS[1]) continue;
      const [x2, y2] = place(t);
      const top = Math.min(y, y2) - Math.min(16, 6 + Math.abs(x - x2) / 12);
      arcs.append(
        svg("path", {
          d: `M ${x} ${y} Q ${(x + x2) / 2} ${top} ${x2} ${y2}`,
          "stroke-width": 1 + 3 * row[t],
          "stroke-opacity": Math.sqrt(row[t]),
        }),
      );
    }
  }

  // Has the text show the i-th character, without moving the page.
  function reveal(i) {
    const item = items()[i];
    if (!item) return;
    const [at, view] = [item.getBoundingClientRect(), node.getBoundingClientRect()];
    if (at.bottom > view.bottom) node.scrollTop += at.bottom - view.bottom + 8;
    if (at.top < view.top) node.scrollTop -= view.top - at.top + 8;
  }

  // The place of the character that has the focus, or −1.
  const focused = () => items().indexOf(document.activeElement);

  return { node, draw, pin, turn, reveal, focused };
};
