// What the views share. Everything that a visitor or a model wrote reaches the page as text, never as HTML.
window.charlm = {
  // A character as it can be seen: spaces and line breaks get a sign.
  visible: (char) => ({ " ": "␣", "\n": "↵", "\t": "⇥" })[char] ?? char,

  // An element: charlm.el("span", { class: "c", text: "a" }, child, …)
  el(tag, attributes = {}, ...children) {
    const svg = ["svg", "g", "rect", "text", "line", "path", "title"].includes(tag);
    const node = svg
      ? document.createElementNS("http://www.w3.org/2000/svg", tag)
      : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "text") node.textContent = value;
      else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (value !== false && value !== null) node.setAttribute(name, value === true ? "" : value);
    }
    node.append(...children);
    return node;
  },

  // The background for a value from −1 to 1: indigo for what is positive, orange for what is negative.
  heat: (x) => `color-mix(in srgb, ${x < 0 ? "var(--negative)" : "var(--positive)"} ${(70 * Math.min(1, Math.abs(x))).toFixed(1)}%, transparent)`,

  // The colours of the page as [r, g, b], for a canvas.
  rgb(node) {
    const style = getComputedStyle(node);
    const read = (name) => style.getPropertyValue(name).match(/\w\w/g).map((x) => parseInt(x, 16));
    return { positive: read("--positive"), negative: read("--negative"), ink: read("--ink") };
  },

  // Base64 as bytes.
  bytes: (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)),

  // An n × n picture, one pixel a number.
  paint(canvas, n, opacityAt, colourAt) {
    canvas.width = canvas.height = n;
    const context = canvas.getContext("2d");
    const image = context.createImageData(n, n);
    for (let i = 0; i < n * n; i++) {
      const [r, g, b] = colourAt(i);
      image.data.set([r, g, b, 255 * opacityAt(i)], 4 * i);
    }
    context.putImageData(image, 0, 0);
  },

  duration: (seconds) => (seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`),

  percent: (p) => (p >= 0.9995 ? "100 %" : p < 0.001 ? "<0.1 %" : `${(100 * p).toFixed(1)} %`),

  // Rows of a bar chart: [[label, probability, class?], …]
  bars(rows) {
    const { el, percent } = window.charlm;
    return rows.map(([label, p, kind = ""]) =>
      el("div", { class: `bar-row ${kind}` },
        el("span", { class: "bar-label", text: label }),
        el("span", { class: "bar-track" }, el("span", { class: "bar", style: `width:${100 * p}%` })),
        el("span", { class: "bar-value", text: percent(p) })));
  },
};
