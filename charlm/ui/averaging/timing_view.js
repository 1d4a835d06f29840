// The loop against the matrix: what each took on the machine that serves the page.
const { el } = window.charlm;
const root = element.querySelector(".timing_view");

const say = el("p", { role: "status", text: "Not measured yet." });
const results = el("div");
const measure = el("button", {
  type: "button",
  text: "Time the loop against the matrix",
  onclick() {
    say.textContent = "Measuring …";
    trigger("click");
  },
});
root.replaceChildren(
  el("h2", { text: "Why not the loop?" }),
  el("p", {
    class: "hint",
    text: "Version 1 asks PyTorch for a mean T times. Version 2 asks for one product, and multiplies with the zeros of the future, too.",
  }),
  measure,
  say,
  results,
);

const digits = (x) => (x >= 10 ? x.toFixed(0) : x.toFixed(1));

function row({ T, loop, tril, ratio, low, high }, longest) {
  const cells = [loop.toFixed(3), tril.toFixed(3), ratio === null ? "–" : digits(ratio)];
  const bar = el("span", { class: "ratio", style: `width: ${(100 * (ratio ?? 0)) / longest}%` });
  return el(
    "tr",
    {},
    el("th", { scope: "row", text: T }),
    ...cells.map((text) => el("td", { text })),
    el("td", { text: ratio === null ? "–" : `${digits(low)} to ${digits(high)}` }),
    el("td", { class: "track" }, bar),
  );
}

function draw() {
  const v = props.value;
  if (!v) return;
  const heads = ["T", "loop, ms", "matrix, ms", "loop / matrix", "middle half", ""];
  const longest = Math.max(...v.rows.map((r) => r.ratio ?? 0), 1);
  say.textContent = v.verdict;
  results.replaceChildren(
    el(
      "table",
      {},
      el("caption", {
        text: `Medians of ${v.pairs} pairs: the loop, then the matrix, on x of shape (1, T, 32). CPU time of one thread of the machine that serves this page: waiting does not count.`,
      }),
      el(
        "thead",
        {},
        el("tr", {}, ...heads.map((text) => el(text ? "th" : "td", text ? { scope: "col", text } : {}))),
      ),
      el("tbody", {}, ...v.rows.map((r) => row(r, longest))),
    ),
  );
}
watch("value", draw);
draw();
