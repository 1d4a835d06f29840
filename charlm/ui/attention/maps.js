// The open head as scores → mask → softmax. `point(i, j)` hears of the cell that is pointed at, `choose` of the
// one that is clicked, or chosen by Enter.
window.charlm.headMaps = ({ point, leave, choose }) => {
  const { MAX_LABELS, el, count, colour, scale, heatMap, attending } = window.charlm;
  const { STEPS, shade, keyOf } = attending;
  const MOST_NUMBERS = 10; // Along an edge: a number is wider than a character.
  const NOTHING = 1e-9;
  const node = el("div", { class: "panes" });
  let maps = [];
  let last = null; // A finger that taps is gone before its click.

  function map(head, name, caption, heatAt, title, key) {
    const { chars, called, does } = head;
    const T = chars.length;
    // Where not every character has room for its label, positions say more.
    const [labels, most] = T <= MAX_LABELS ? [chars, MAX_LABELS] : [[...chars.keys()], MOST_NUMBERS];
    const axes = { rows: "the one that looks", columns: "the one looked at" };
    const made = heatMap({
      name,
      caption,
      labels,
      most,
      heatAt,
      axes,
      point: (i, j) => {
        last = { i, j };
        point(i, j);
      },
    });
    const canvas = made.figure.querySelector("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${called}, ${name} of ${count(T)} × ${count(T)} characters: ${does}.`);
    const board = made.figure.querySelector(".board");
    board.addEventListener("pointerleave", leave);
    board.addEventListener("focusout", leave);
    board.addEventListener("click", () => last && choose(last));
    board.addEventListener("keydown", (event) => {
      if ((event.key !== "Enter" && event.key !== " ") || !last) return;
      event.preventDefault();
      choose(last);
    });
    return { ...made, pane: el("div", { class: "pane" }, made.figure, scale(title, key)) };
  }

  function weightsOf(head) {
    const caption = head.scores ? "softmax of each row" : "mean of all heads";
    const heatAt = (i) => Math.sqrt(head.weights[i]);
    return map(head, "weights", caption, heatAt, "Weight:", keyOf(STEPS, shade));
  }

  function scoresOf(head) {
    const { chars, scores, size, causal } = head;
    const T = chars.length;
    const largest = scores.reduce((most, score) => Math.max(most, Math.abs(score)), NOTHING);
    const future = (i) => i % T > Math.floor(i / T);
    const heatAt = (i) => scores[i] / largest;
    // A plain average has no scores but 0.
    const shares = largest > NOTHING ? [-1, -0.5, 0, 0.5, 1] : [0];
    const key = keyOf(
      shares.map((x) => x * largest),
      (x) => colour(x / largest),
    );
    const masked = ["−∞, the future", "color-mix(in srgb, var(--ink) 12%, transparent)"];
    const plain = map(head, "scores", size ? `q·k/√${size}` : "q·k", heatAt, "Score:", key);
    if (!causal) return [plain];
    return [
      plain,
      map(head, "masked", "the future is −∞", (i) => (future(i) ? null : heatAt(i)), "Score:", [
        ...key,
        masked,
      ]),
    ];
  }

  // Draws a head: its `weights` and `scores` (T × T), if it has any, of `chars`; the `size` of its keys, if scores
  // are divided by its root; whether it is `causal`, with a mask; how it is `called` and what it `does`, in words.
  function draw(head) {
    last = null;
    maps = [...(head.scores ? scoresOf(head) : []), weightsOf(head)];
    node.replaceChildren(...maps.map(({ pane }) => pane));
  }

  // The same after a change of the weights alone.
  function drawWeights(head) {
    maps[maps.length - 1] = weightsOf(head);
    node.lastChild.replaceWith(maps.at(-1).pane);
  }

  function mark(i, j) {
    for (const made of maps) made.mark(i, j);
  }

  function clear() {
    maps = [];
    node.replaceChildren();
  }

  return { node, draw, drawWeights, mark, clear };
};
