// The text as ids, the vocabulary, one chunk unrolled, and a batch whose targets point at their context.
const { el, visible } = window.charlm;
const root = element.querySelector(".tokens_view");

const cell = (char, id, attributes = {}) =>
  el("span", { class: "token", ...attributes }, el("b", { text: visible(char) }), el("i", { text: id }));
const section = (title, ...children) => el("section", {}, el("h3", { text: title }), ...children);

function batch(v) {
  const say = el("p", { class: "say", role: "status", text: "Point at a cell of y." });
  const at = {};
  const grid = (name, ids) =>
    el("div", { class: "grid-scroll" }, el("h4", { text: `${name}  (${ids.length}, ${ids[0]?.length ?? 0})` }),
      ...ids.map((row, b) => el("div", { class: "token-row" }, ...row.map((id, t) => {
        const node = cell(v.vocab[id], id, { "data-cell": `${name}-${b}-${t}`, tabindex: name === "y" ? "0" : false });
        at[`${name}-${b}-${t}`] = node;
        if (name === "y") ["pointerenter", "focus", "click"].forEach((e) => node.addEventListener(e, () => light(b, t)));
        return node;
      }))));
  function light(b, t) {
    root.querySelectorAll(".lit, .target").forEach((n) => n.classList.remove("lit", "target"));
    for (let i = 0; i <= t; i++) at[`x-${b}-${i}`].classList.add("lit");
    at[`y-${b}-${t}`].classList.add("target");
    const context = v.x[b].slice(0, t + 1);
    say.textContent = `When the input is [${context.join(", ")}] “${context.map((i) => visible(v.vocab[i])).join("")}”, the target is ${v.y[b][t]} “${visible(v.vocab[v.y[b][t]])}”.`;
  }
  return [say, el("div", { class: "grids" }, grid("x", v.x), grid("y", v.y))];
}

function draw() {
  const v = props.value;
  if (!v) return;
  const used = new Set(v.ids);
  const n = v.chars.length;
  const parts = [
    section(`${n.toLocaleString("en")} characters, ${n.toLocaleString("en")} ids`,
      el("p", {}, el("span", { class: "swatch train" }), ` training split: the first ${v.n_train.toLocaleString("en")} `,
        el("span", { class: "swatch val" }), ` validation split: the last ${(n - v.n_train).toLocaleString("en")}`),
      el("div", { class: "tokens-text", id: "tokens-ids" }, ...v.chars.map((c, i) => cell(c, v.ids[i], { class: `token ${i < v.n_train ? "train" : "val"}` })))),
    section(`Vocabulary: vocab_size = ${v.vocab.length}`,
      el("div", { class: "tokens-vocab" }, ...v.vocab.map((c, i) => cell(c, i, { class: `token ${used.has(i) ? "used" : "unused"}` }))),
      el("p", { class: "hint" }, v.decoded === v.chars.join("") ? "decode(encode(text)) == text: nothing is lost on the way there and back." : "decode(encode(text)) != text")),
  ];
  if (v.block_size) parts.push(
    section(`One chunk holds ${v.block_size} examples`,
      el("ul", { class: "chunk" }, ...v.chunk.map(([context, target]) =>
        el("li", {}, `when the input is [${context.join(", ")}] `, el("code", { text: context.map((i) => visible(v.vocab[i])).join("") }),
          ", the target is ", el("b", { text: target }), " ", el("code", { text: visible(v.vocab[target]) }))))),
    section("One random batch", ...batch(v)));
  root.replaceChildren(...parts);
}
watch("value", draw);
draw();
