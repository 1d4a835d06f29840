// Small multiples of every head: how it looks back over this text, what it does here and elsewhere, and what it is
// worth; in an order, and tinted, by any of its numbers. `open(layer, head)` hears of the one that is chosen.
window.charlm.headTiles = (open) => {
  const { el, bytes, heat, scale, thumbnail, walk, attending } = window.charlm;
  const { nameOf, settingOf, inWords } = attending;
  const AS_IN_MODEL = "model";
  const box = el("div", { class: "tiles", role: "group", "aria-label": "Every layer and head" });
  const order = el("select", { onchange: arrange });
  const tinted = el("select", { onchange: arrange });
  const sorting = el(
    "p",
    { class: "sorting" },
    el("label", {}, "Order ", order),
    el("label", {}, "Tint ", tinted),
  );
  const key = el("div");
  const first = el("p", { class: "hint", role: "status" });
  const patches = el("p", { class: "hint patches" });
  const definitions = el("dl");
  const reading = el("p");
  const meaning = el("details", {}, el("summary", { text: "What the scores mean" }), reading, definitions);
  const average = tile(-1, 0);
  const grid = el("div", { class: "heads" });
  box.append(average, grid);
  const node = el(
    "section",
    { class: "all-heads" },
    el("h2", { text: "Every layer and head" }),
    el("p", {
      class: "hint",
      text: "A tile shows how one head looks back over this text. Open one to see its numbers.",
    }),
    sorting,
    box,
    first,
    key,
    patches,
    meaning,
  );
  const steps = walk(box, ".tile", () => {});
  let tiles = []; // Those of the heads, as in the model,
  let drawn = null; // and what they show.
  let chosen = [-1, 0];

  function tile(layer, head) {
    const attributes = {
      type: "button",
      class: "tile",
      "aria-pressed": "false",
      "data-head": `${layer}-${head}`,
      onclick: () => open(layer, head),
    };
    return el("button", attributes);
  }

  // Draws all heads of `v`, the value of the view, in their `version` learned or changed.
  function draw(v, version) {
    drawn = { v, version };
    if (tiles.length !== v.n_layer * v.n_head || +grid.dataset.heads !== v.n_head) {
      tiles = Array.from({ length: v.n_layer * v.n_head }, (_, k) =>
        tile(Math.floor(k / v.n_head), k % v.n_head),
      );
      grid.dataset.heads = v.n_head;
      grid.style.cssText = `--heads: ${v.n_head}; --layers: ${v.n_layer}`;
    }
    [average, ...tiles].forEach(fill);
    sorting.hidden = !v.known;
    offer(v.known);
    arrange();
    patches.textContent =
      [...v.text].length > v.tile_size
        ? `A point of a tile is the largest weight of a patch: the text has more than ${v.tile_size} characters.`
        : "";
  }

  function fill(node, k) {
    const { v, version } = drawn;
    const [layer, head] = node.dataset.head.split("-").slice(-2).map(Number);
    const isAverage = k === 0;
    const name = isAverage ? nameOf(-1, 0) : nameOf(layer, head);
    const [words, weight] = v[version].does[k];
    const setting = isAverage ? "learned" : settingOf(v.settings, layer, head);
    const canvas = thumbnail(v.tile_size, bytes(v[version].tiles[k]), { "aria-hidden": "true" });
    const here = short(words, weight);
    const usual = !isAverage && v.known?.usual[k - 1];
    node.title = [
      `${name}, on this text: ${words}${weight === null ? "" : `: mean weight ${weight.toFixed(2)}`}.`,
      ...(usual ? [`On ${v.known.excerpt}: ${usual[0]}. ${worth(v.known, k - 1)}`] : []),
    ].join("\n");
    node.classList.toggle("changed", setting !== "learned");
    node.classList.toggle("as-learned", version === "learned");
    node.classList.toggle("quiet", version === "changed" && ["silent", "off"].includes(setting));
    node.replaceChildren(
      el("span", { class: "name", text: name.toLowerCase() }),
      " ",
      ...(setting === "learned" ? [] : [el("em", { text: inWords(setting) }), " "]),
      canvas,
      el(
        "span",
        { class: "habits" },
        el("small", { class: "here", text: usual ? `here: ${here}` : here }),
        " ",
        ...(usual ? [el("small", { class: "usual", text: `mostly: ${usual[1]}` }), " "] : []),
      ),
      ...(usual ? [bars(v.known, k - 1)] : []),
    );
  }

  // What a head does on this text, in short.
  function short(words, weight) {
    const text = words.replace(/^looks (at )?(the )?|^spreads |, .*| characters?/g, "");
    return weight === null ? text : `${text} ${weight.toFixed(2)}`;
  }

  const plus = (x) => `${x < 0 ? "−" : "+"}${Math.abs(x).toFixed(3)}`;
  const worth = (known, k) =>
    `Silent, it changes the loss by ${plus(known.silent[k])}; as a plain average, by ${plus(known.average[k])}.`;

  function bars(known, k) {
    const most = Math.max(1e-9, ...known.silent, ...known.average);
    const bar = (kind) =>
      el("span", { class: `worth ${kind}`, style: `width: ${(100 * Math.max(0, known[kind][k])) / most}%` });
    return el(
      "span",
      { class: "worths" },
      el("span", { class: "tracks", "aria-hidden": "true" }, bar("silent"), bar("average")),
      el("small", { text: plus(known.silent[k]) }),
    );
  }

  // By what tiles can be put in order, and tinted.
  function offer(known) {
    meaning.hidden = !known;
    if (!known) return;
    reading.textContent = known.reading;
    definitions.replaceChildren(
      ...known.definitions.flatMap(([term, words]) => [el("dt", { text: term }), el("dd", { text: words })]),
    );
    const measures = [
      ["silent", "loss if it is silent"],
      ["average", "loss if it is a plain average"],
      ...Object.entries(known.titles).map(([name, title]) => [name, title.toLowerCase()]),
    ];
    const options = (first) =>
      [[AS_IN_MODEL, first], ...measures].map(([value, text]) => el("option", { value, text }));
    const kept = [order.value, tinted.value];
    order.replaceChildren(...options("as in the model"));
    tinted.replaceChildren(...options("none"));
    [order, tinted].forEach((select, k) => {
      select.value = kept[k];
      if (select.selectedIndex < 0) select.selectedIndex = 0;
    });
  }

  const numbersOf = (known, by) => known[by] ?? known.scores[by];

  function arrange() {
    const { known } = drawn.v;
    const by = known && order.value !== AS_IN_MODEL ? numbersOf(known, order.value) : null;
    const places = [...tiles.keys()];
    if (by) places.sort((a, b) => by[b] - by[a]);
    grid.classList.toggle("sorted", by !== null);
    if (places.some((k, place) => grid.children[place] !== tiles[k]))
      grid.replaceChildren(...places.map((k) => tiles[k]));
    const tints = known && tinted.value !== AS_IN_MODEL ? numbersOf(known, tinted.value) : null;
    const most = ["silent", "average"].includes(tinted.value) && tints ? Math.max(1e-9, ...tints) : 1;
    tiles.forEach((node, k) => {
      node.style.backgroundColor = tints ? heat((0.6 * tints[k]) / most) : "";
      node.classList.toggle("tinted", tints !== null);
    });
    key.replaceChildren(...(known ? explain(known, tints && most) : []));
    first.textContent = by
      ? `First is ${title(places[0])}, with ${by[places[0]].toFixed(3)}; last is ${title(places.at(-1))}, with ${by[places.at(-1)].toFixed(3)}.`
      : "";
    steps.begin([...box.querySelectorAll(".tile")].indexOf(tileOf(...chosen)));
  }

  const title = (k) => nameOf(Math.floor(k / drawn.v.n_head), k % drawn.v.n_head).toLowerCase();

  function explain(known, most) {
    const { loss, all_averaged: averaged, bigram, excerpt } = known;
    const tints = [0, 0.25, 0.5, 0.75, 1].map((x) => [(x * most).toFixed(most < 0.1 ? 3 : 2), heat(0.6 * x)]);
    return [
      scale("How much the loss rises if a head is", [
        ["silent", "var(--positive)"],
        ["a plain average", "color-mix(in srgb, var(--positive) 45%, transparent)"],
      ]),
      ...(most ? [scale("Tint:", tints)] : []),
      el("p", {
        class: "hint",
        text:
          `Loss, and what heads mostly do, on ${excerpt}, where the model as it was learned has a loss of ` +
          `${loss.toFixed(2)}. With all heads plain averages it would be ${averaged.toFixed(2)}` +
          `${bigram === null ? "" : `; the counted bigram has ${bigram.toFixed(2)}`}.`,
      }),
    ];
  }

  const tileOf = (layer, head) => box.querySelector(`[data-head="${layer}-${head}"]`);

  // Marks the head that is open.
  function mark(layer, head) {
    chosen = [layer, head];
    for (const node of [average, ...tiles]) {
      const isOpen = node === tileOf(layer, head);
      node.classList.toggle("chosen", isOpen);
      node.setAttribute("aria-pressed", isOpen);
    }
  }

  return { node, draw, mark };
};
