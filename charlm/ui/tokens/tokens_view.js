// The text as ids, the vocabulary, one chunk unrolled, and a batch whose targets point at their context.
const { el, glyphs, count } = window.charlm;
const root = element.querySelector(".tokens_view");

const token = (char, id, kind, attributes = {}) =>
  el("span", { class: `token ${kind}`, ...attributes }, el("b", {}, glyphs(char)), el("i", { text: id }));
const section = (title, ...children) => el("section", {}, el("h3", { text: title }), ...children);

function text({ chars, ids, n_train }) {
  const n = chars.length;
  return section(
    `${count(n)} characters, ${count(n)} ids`,
    el(
      "p",
      {},
      el("span", { class: "swatch train" }),
      ` training split: the first ${count(n_train)} `,
      el("span", { class: "swatch val" }),
      ` validation split: the last ${count(n - n_train)}`,
    ),
    el(
      "div",
      { class: "tokens", id: "tokens-ids" },
      ...chars.map((char, i) => token(char, ids[i], i < n_train ? "train" : "val")),
    ),
  );
}

function vocabulary({ vocab, ids, chars, decoded }) {
  const used = new Set(ids);
  const same = decoded === chars.join("");
  return section(
    `Vocabulary: vocab_size = ${vocab.length}`,
    el(
      "div",
      { class: "tokens" },
      ...vocab.map((char, id) => token(char, id, used.has(id) ? "used" : "unused")),
    ),
    el(
      "p",
      { class: "hint" },
      same
        ? "decode(encode(text)) == text: nothing is lost on the way there and back."
        : "decode(encode(text)) != text",
    ),
  );
}

function chunk({ chunk: examples, block_size, vocab }) {
  const example = ([context, target]) =>
    el(
      "li",
      {},
      `when the input is [${context.join(", ")}] `,
      el("code", {}, asText(vocab, context)),
      ", the target is ",
      el("b", { text: target }),
      " ",
      el("code", {}, asText(vocab, [target])),
    );
  return section(
    `One chunk holds ${block_size} examples`,
    el("ul", { class: "chunk" }, ...examples.map(example)),
  );
}

const asText = (vocab, ids) => glyphs(ids.map((id) => vocab[id]).join(""));

function grid(name, rows, vocab) {
  const row = (ids, b) =>
    el(
      "div",
      { class: "token-row" },
      ...ids.map((id, t) => token(vocab[id], id, "", { "data-cell": `${name}-${b}-${t}` })),
    );
  return el(
    "div",
    { class: "grid-scroll" },
    el("h4", { text: `${name}  (${rows.length}, ${rows[0].length})` }),
    ...rows.map(row),
  );
}

function batch({ x, y, vocab }) {
  const say = el("p", { class: "say", role: "status", text: "Point at a cell of y." });
  const grids = el("div", { class: "grids" }, grid("x", x, vocab), grid("y", y, vocab));
  for (const node of grids.querySelectorAll('[data-cell^="y-"]')) {
    const [b, t] = node.dataset.cell.split("-").slice(1).map(Number);
    const explain = () => {
      light(grids, b, t);
      const context = x[b].slice(0, t + 1);
      say.replaceChildren(
        `When the input is [${context.join(", ")}] “`,
        asText(vocab, context),
        `”, the target is ${y[b][t]} “`,
        asText(vocab, [y[b][t]]),
        "”.",
      );
    };
    node.tabIndex = 0;
    for (const event of ["pointerenter", "focus", "click"]) node.addEventListener(event, explain);
  }
  return section("One random batch", say, grids);
}

// Marks the target in row b and column t, and what the model may look at to predict it.
function light(grids, b, t) {
  for (const node of grids.querySelectorAll(".lit, .target")) node.classList.remove("lit", "target");
  for (let i = 0; i <= t; i++) grids.querySelector(`[data-cell="x-${b}-${i}"]`).classList.add("lit");
  grids.querySelector(`[data-cell="y-${b}-${t}"]`).classList.add("target");
}

function draw() {
  const v = props.value;
  if (!v) return;
  root.replaceChildren(text(v), vocabulary(v), ...(v.block_size ? [chunk(v), batch(v)] : []));
}
watch("value", draw);
draw();
