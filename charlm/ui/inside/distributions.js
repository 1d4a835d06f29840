// Several distributions of the next character as one chart: for each character a bar in each of them. `series`
// names the distributions, each as [text or element, class]; `rows` have a `char` and its probabilities, `ps`.
window.charlm.distributions = (series, rows) => {
  const { el, glyphs, percent } = window.charlm;

  const line = (p, [, kind]) =>
    el(
      "span",
      { class: `line ${kind}` },
      el(
        "span",
        { class: "bar-track" },
        el("span", { class: "bar", style: `width:${(100 * p).toFixed(2)}%` }),
      ),
      el("span", { class: "bar-value", text: percent(p) }),
    );

  const row = ({ char, ps }) =>
    el(
      "div",
      { class: "several", "data-char": char },
      el("b", {}, glyphs(char)),
      el("span", { class: "lines" }, ...ps.map((p, i) => line(p, series[i]))),
    );

  const entry = ([name, kind]) => el("span", {}, el("span", { class: `swatch ${kind}` }), name);
  const key = el("p", { class: "scale" }, ...series.map(entry));
  return el("div", { class: "distributions" }, key, ...rows.map(row));
};
