// One weight of the open head, set by hand: of the pinned character's row. `ask` asks the server for what becomes
// of it, `changed(row)` hears of the row's weights, null if they are as they were, and `pointAt(j)` of the column.
window.charlm.cellEditor = ({ ask, changed, pointAt }) => {
  const { el, glyph, glyphs, spoken, bar, scale, percent, colour } = window.charlm;
  const column = el("select", { "aria-label": "The one looked at", onchange: pick });
  const number = el("input", { type: "number", min: 0, max: 1, step: 0.01, "aria-label": "Weight" });
  const slider = el("input", {
    type: "range",
    min: 0,
    max: 1,
    step: 0.01,
    "aria-label": "Weight, by a slider",
  });
  const back = el("button", { type: "button", text: "As it was", onclick: takeBack });
  const who = el("b");
  const line = el(
    "div",
    { class: "cell-line" },
    el("span", {}, who, " takes from"),
    column,
    number,
    slider,
    back,
  );
  const told = el("p", { role: "status" });
  const key = scale("What the model expects next:", [
    ["with this weight", colour(0.55)],
    ["as it was", "var(--negative)"],
  ]);
  const rows = el("div", { class: "cell-bars" });
  const node = el(
    "section",
    { class: "cell" },
    el("h2", { text: "One weight by hand" }),
    el("p", {
      class: "hint",
      text:
        "Choose a cell of the pinned character’s row, here or in the maps, and set its weight: the others of the " +
        "row share the rest, in proportion. This lives on this page only: no weights of the model could express " +
        "it.",
    }),
    line,
    told,
    key,
    rows,
  );
  let at = null; // The chars, the pinned row i, its weights as they were,
  let wanted = null; // the weight to ask for next,
  let asking = false;

  for (const input of [number, slider]) input.addEventListener("input", () => set(input.value));

  // Offers the cells of the row of character i of `chars`, which has these `weights`; j is the column, if one is
  // pointed at.
  function show(chars, i, j, weights) {
    at = { chars, i, weights: weights.slice(0, i + 1), set: false };
    wanted = null;
    who.replaceChildren(glyphs(chars[i]), ` (${i})`);
    const most = at.weights.indexOf(Math.max(...at.weights));
    column.replaceChildren(...chars.slice(0, i + 1).map((char, t) => option(char, t, at.weights[t])));
    column.value = j !== null && j <= i ? j : most;
    for (const input of [column, number, slider]) input.disabled = i === 0;
    showWeight(at.weights[column.value]);
    forget();
    if (i === 0) told.textContent = "The first character sees only itself: its weight is 1.";
  }

  // In words where there is a word: a list can be read aloud.
  function option(char, t, weight) {
    const sign = spoken(char) === char ? glyph(char) : spoken(char);
    return el("option", { value: t, text: `${sign.textContent ?? sign} (${t}): ${weight.toFixed(3)}` });
  }

  function showWeight(weight) {
    number.value = +weight.toFixed(4);
    slider.value = weight;
  }

  function forget() {
    told.replaceChildren();
    rows.replaceChildren();
    key.hidden = true;
    back.disabled = true;
    node.removeAttribute("aria-busy");
  }

  function pick() {
    takeBack();
    pointAt(+column.value);
  }

  function takeBack() {
    wanted = null;
    const { set, weights } = at;
    at = { ...at, set: false };
    showWeight(weights[column.value]);
    forget();
    if (set) changed(null);
  }

  // Asks for one weight at a time, for the latest of them.
  async function set(value) {
    if (value === "" || !(value >= 0 && value <= 1)) return;
    if (value !== number.value) number.value = value;
    slider.value = value;
    wanted = +value;
    node.setAttribute("aria-busy", true);
    if (asking) return;
    asking = true;
    while (wanted !== null) {
      const [mine, weight] = [at, wanted];
      wanted = null;
      const answer = await ask({ row: mine.i, column: +column.value, weight });
      if (mine === at) take(answer, weight);
    }
    asking = false;
  }

  function take(answer, weight) {
    node.removeAttribute("aria-busy");
    back.disabled = false;
    if (answer.error) {
      told.textContent = answer.error;
      return;
    }
    at.set = true;
    key.hidden = false;
    rows.replaceChildren(
      ...answer.guesses.map(([char, before, after]) =>
        bar({
          label: glyphs(char),
          share: after,
          mark: before,
          value: `${percent(before)} → ${percent(after)}`,
        }),
      ),
    );
    const best = (which) => answer.guesses.reduce((a, b) => (b[which] > a[which] ? b : a));
    const j = +column.value;
    const [was, is] = [best(1), best(2)];
    told.replaceChildren(
      "With ",
      weight.toFixed(2),
      ` in place of ${at.weights[j].toFixed(2)} on `,
      el("b", {}, glyphs(at.chars[j])),
      ` (${j}), the model expects `,
      el("b", {}, glyphs(is[0])),
      ` next, with ${percent(is[2])}; as it was, `,
      el("b", {}, glyphs(was[0])),
      `, with ${percent(was[1])}.`,
    );
    changed(answer.row);
  }

  // The column whose weight is set, or null.
  const setColumn = () => (at?.set ? +column.value : null);

  return { node, show, setColumn };
};
