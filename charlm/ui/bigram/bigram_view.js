// What follows the chosen character: the learned probability as a bar, the counted frequency as a mark, and
// how often it was counted.
const { el, glyphs, count, percent, bars, walk, bigram } = window.charlm;
const root = element.querySelector(".bigram_view");

const list = el("div", { class: "rows", role: "list" });
const say = el("p", { class: "say", role: "status" });
let rows = [];
const { begin } = walk(list, ".bar-row:not(.rest)", (_, i) => explain(i));

function row({ char, prob, counted }) {
  return { label: glyphs(char), share: prob, mark: counted, role: "listitem" };
}

function explain(i) {
  const { char, temperature, log_sum, seen } = props.value;
  const { char: next, logit, prob, count: n, counted } = rows[i];
  const softmax =
    log_sum === null
      ? "temperature 0 gives all to the largest logit, so"
      : `${bigram.softmax(logit, temperature, log_sum)} =`;
  const share = seen ? `counted ${count(n)} of ${count(seen)} = ${percent(counted)}` : "never counted";
  say.replaceChildren(
    glyphs(char),
    " is followed by ",
    glyphs(next),
    `: learned ${softmax} ${percent(prob)}; ${share}.`,
  );
}

function key({ char, temperature, seen }) {
  return el(
    "p",
    {},
    el("span", { class: "swatch learned" }),
    ` learned, at temperature ${temperature}`,
    el("br"),
    el("span", { class: "swatch counted" }),
    " counted: ",
    glyphs(char),
    ` comes before another character ${count(seen)} times in the training split`,
  );
}

function draw() {
  const v = props.value;
  if (!v?.rows) {
    root.replaceChildren();
    return;
  }
  rows = v.rows;
  const drawn = bars(rows.map(row), v.more, v.rest);
  drawn.forEach((node, i) => {
    node.append(el("span", { class: "count", text: i < rows.length ? `${count(rows[i].count)} ×` : "" }));
  });
  list.replaceChildren(...drawn);
  begin(0);
  explain(0);
  root.replaceChildren(el("h2", {}, "What follows ", glyphs(v.char)), key(v), list, say);
  bigram.choose(v.char);
}
watch("value", draw);
draw();
