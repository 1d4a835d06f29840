// The text as ids, the vocabulary, pieces of words, one chunk unrolled, and a batch whose targets point at their
// context. Whatever is pointed at lights up everywhere, and the sentence at the end says what it is.
const { el, glyphs, spoken, count, many, walk, thread } = window.charlm;
const root = element.querySelector(".tokens_view");
const HINT = "Point at a character, tap it, or come to it with Tab and the arrow keys.";
const say = el("p", { class: "say", role: "status", text: HINT });
const asText = (vocab, ids) => glyphs(ids.map((id) => vocab[id]).join(""));

const token = (char, id) =>
  el("span", { class: "token" }, el("b", {}, glyphs(char)), " ", el("i", { text: id }));

function section(title, ...children) {
  return el("section", {}, el("h2", { text: title }), ...children);
}

// A box of characters, one stop of the Tab key. Each of `items` has its attributes and what is told of it.
function box(name, items) {
  const options = items.map(({ char, id, kind, place = null }) =>
    el(
      "span",
      {
        class: `item ${kind}`,
        role: "option",
        "aria-selected": "false",
        "aria-label": spoken(char) === char ? null : `${spoken(char)} ${id}`,
        "data-id": id,
        "data-place": place,
      },
      token(char, id),
    ),
  );
  const node = el("div", { class: "tokens", role: "listbox", "aria-label": name }, ...options);
  walk(node, ".item", (item, i) => show(item, items[i].tell));
  return node;
}

function splits(v) {
  const { chars, ids, n_train } = v;
  const places = ids.map((_, place) => place);
  const item = (place) => ({
    char: chars[place],
    id: ids[place],
    place,
    kind: place < n_train ? "train" : "val",
    tell: () => tellPlace(v, place),
  });
  const part = (kind, title, chosen) => {
    const name = `${title}: ${many(chosen.length, "character")}`;
    const head = el("p", { class: "part" }, el("span", { class: `swatch ${kind}` }), ` ${name}`);
    return el("div", {}, head, ...(chosen.length ? [box(name, chosen.map(item))] : []));
  };
  return section(
    `${many(chars.length, "character")}, ${many(chars.length, "id")}`,
    el(
      "div",
      { id: "tokens-ids" },
      part("train", "Training split, the first nine tenths", places.slice(0, n_train)),
      part("val", "Validation split, the rest", places.slice(n_train)),
    ),
  );
}

function vocabulary(v) {
  const { vocab, ids, chars, decoded } = v;
  const used = new Set(ids);
  const same = decoded === chars.join("");
  return section(
    `Vocabulary: vocab_size = ${count(vocab.length)}`,
    el("p", { class: "hint", text: "The characters with a border are in your text." }),
    box(
      `The vocabulary: ${many(vocab.length, "character")}`,
      vocab.map((char, id) => ({
        char,
        id,
        kind: used.has(id) ? "used" : "unused",
        tell: () => tellId(v, id),
      })),
    ),
    el("p", {
      class: "hint",
      text: same
        ? "decode(encode(text)) == text: of the characters above, nothing is lost on the way there and back."
        : "decode(encode(text)) != text",
    }),
  );
}

// What large models read, made from the same text.
function pieces({ pieces, distinct_pieces, chars }) {
  return section(
    "Larger models read pieces of words",
    el("p", {
      text:
        "A text is shorter to read if what often comes together is one token. Here the pair of neighbours that " +
        `is most frequent in your text became one, again and again: its ${many(chars.length, "character")} ` +
        `became ${many(pieces.length, "token")}, ${count(distinct_pieces)} of them different. GPT-2 made 50,000 ` +
        "such merges, learned from millions of web pages. The models on this page read characters.",
    }),
    el("p", { class: "pieces" }, ...pieces.map((piece) => el("span", {}, glyphs(piece)))),
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
    `One chunk holds ${many(block_size, "example")}`,
    el("ul", { class: "chunk" }, ...examples.map(example)),
  );
}

// x or y as a table: a row for each chunk, a column for each place in it.
function grid(v, name) {
  const rows = v[name];
  const ahead = name === "y" ? 1 : 0;
  const head = (scope, text) => el("th", { scope, text });
  const cell = (id, b, t) =>
    el(
      "td",
      {
        class: "item",
        "data-cell": `${name}-${b}-${t}`,
        "data-id": id,
        "data-place": v.starts[b] + t + ahead,
      },
      token(v.vocab[id], id),
    );
  const body = rows.map((ids, b) => el("tr", {}, head("row", b), ...ids.map((id, t) => cell(id, b, t))));
  const table = el(
    "table",
    {},
    el(
      "caption",
      {},
      el("b", { text: name }),
      ` (${rows.length}, ${rows[0].length}), ${name === "x" ? "what is read" : "what comes next: the targets"}`,
    ),
    el("thead", {}, el("tr", {}, el("td"), ...rows[0].map((_, t) => head("col", t)))),
    el("tbody", {}, ...body),
  );
  walk(table, "tbody td", (td) => {
    const [b, t] = td.dataset.cell.split("-").slice(1).map(Number);
    show(td, () => (name === "y" ? tellTarget(v, b, t) : tellInput(v, b, t)));
    if (name === "y") lightContext(b, t);
  });
  return el("div", { class: "grid-scroll" }, table);
}

function batch(v) {
  return section(
    "One random batch",
    el("p", {
      class: "hint",
      text: "Each row of x is a chunk of the training split, and y is the same one character further on.",
    }),
    el("div", { class: "grids" }, grid(v, "x"), grid(v, "y")),
  );
}

const times = (n) => (n === 1 ? "once" : n === 2 ? "twice" : `${count(n)} times`);
const occurrences = ({ ids }, id) => ids.filter((other) => other === id).length;
const quoted = (v, ids) => ["“", asText(v.vocab, ids), "”"];

function tellPlace(v, place) {
  const split = place < v.n_train ? "training" : "validation";
  const id = v.ids[place];
  const seen = times(occurrences(v, id));
  return [
    ...quoted(v, [id]),
    ` has id ${id}: place ${place} of the text, in the ${split} split. It is there ${seen}.`,
  ];
}

function tellId(v, id) {
  const n = occurrences(v, id);
  return [
    `id ${id} is `,
    ...quoted(v, [id]),
    n ? `: it is in your text ${times(n)}.` : ": it is not in your text.",
  ];
}

function tellInput(v, b, t) {
  return [
    `x[${b}, ${t}] = ${v.x[b][t]} `,
    ...quoted(v, [v.x[b][t]]),
    `: place ${v.starts[b] + t} of the text, in the training split.`,
  ];
}

function tellTarget({ vocab, x, y }, b, t) {
  const context = x[b].slice(0, t + 1);
  return [
    `y[${b}, ${t}]: When the input is [${context.join(", ")}] “`,
    asText(vocab, context),
    `”, the target is ${y[b][t]} “`,
    asText(vocab, [y[b][t]]),
    "”.",
  ];
}

// Marks the item that is pointed at, where it is in the text, and its id wherever it is.
function show(item, tell) {
  for (const node of root.querySelectorAll(".lit, .target, .same"))
    node.classList.remove("lit", "target", "same");
  for (const node of root.querySelectorAll('[aria-selected="true"]'))
    node.setAttribute("aria-selected", false);
  for (const node of root.querySelectorAll(`[data-id="${item.dataset.id}"]`)) node.classList.add("same");
  item.classList.add("target");
  placeInText(item)?.classList.add("target");
  if (item.role === "option") item.setAttribute("aria-selected", true);
  say.replaceChildren(...tell());
}

const placeInText = ({ dataset }) => root.querySelector(`#tokens-ids [data-place="${dataset.place}"]`);

// Marks what the model may look at to predict the target in row b and column t: in x, and where it is in the text.
function lightContext(b, t) {
  for (let i = 0; i <= t; i++) {
    const cell = root.querySelector(`[data-cell="x-${b}-${i}"]`);
    cell.classList.add("lit");
    placeInText(cell).classList.add("lit");
  }
}

function draw() {
  const v = props.value;
  if (!v) return;
  say.textContent = HINT;
  const learned = v.block_size ? [chunk(v), batch(v)] : [];
  root.replaceChildren(splits(v), vocabulary(v), ...learned, ...(v.chars.length ? [pieces(v)] : []), say);
  showPinned(v);
}

// Points at the character that is pinned, if it is here.
function showPinned(v) {
  const place = thread.placeIn(v.chars.join(""));
  if (place !== null) show(placeInText({ dataset: { place } }), () => tellPlace(v, place));
}

root.addEventListener("click", ({ target }) => {
  const place = target.closest("#tokens-ids .item")?.dataset.place;
  if (place) thread.pin(props.value.chars.join(""), +place);
});
watch("value", draw);
draw();
