// Where the browser keeps nothing for a page, as in another site's frame, it is kept until the page is left.
// Gradio's page does not load without.
(() => {
  try {
    if (window.localStorage) return;
  } catch {} // Reading it is refused.
  const kept = new Map();
  const storage = {
    getItem: (key) => kept.get(key) ?? null,
    setItem: (key, value) => kept.set(key, `${value}`),
    removeItem: (key) => kept.delete(key),
  };
  Object.defineProperty(window, "localStorage", { value: storage });
})();

// What the views share. Everything that a visitor or a model wrote reaches the page as text, never as HTML.
window.charlm = (() => {
  const SIGNS = { " ": "␣", "\n": "↵", "\t": "⇥" };
  const ABBREVIATIONS = {
    "\r": "CR",
    "\u00a0": "NBSP",
    "\u00ad": "SHY",
    "\u200b": "ZWSP",
    "\u200c": "ZWNJ",
    "\u200d": "ZWJ",
    "\u200e": "LRM",
    "\u200f": "RLM",
    "\u202f": "NNBSP",
    "\ufeff": "BOM",
  };
  const SPOKEN = { " ": "space", "\n": "line break", "\t": "tab" };
  // Unicode's categories "other" and "separator", and what is ignored where it is not understood.
  const UNSEEN = /([\p{C}\p{Z}\p{DI}])/u;
  const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  const MAX_LABELS = 32;

  // A character as it can be seen: as itself, as a sign, or with its abbreviation or code point in a box.
  function glyph(char) {
    if (SIGNS[char]) return SIGNS[char];
    if (!UNSEEN.test(char)) return char;
    const codePoint = char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    return el("small", { class: "unseen", text: ABBREVIATIONS[char] ?? `U+${codePoint}` });
  }

  // A text of which every character can be seen: an accent that comes first stands on a circle. No neighbour
  // turns it around, and no translator translates it.
  function glyphs(text) {
    const parts = text.replace(/^(?!\p{DI})\p{M}/u, "◌$&").split(UNSEEN); // Every second part is unseen.
    return el("bdi", { translate: "no" }, ...parts.map((part, i) => (i % 2 ? glyph(part) : part)));
  }

  // A character as a screen reader can say it.
  const spoken = (char) => SPOKEN[char] ?? char;

  // The last characters of a text.
  const ending = (text) => [...text].slice(-24).join("");

  const count = (n) => n.toLocaleString("en");
  // "1 character", "2 characters".
  const many = (n, noun) => `${count(n)} ${noun}${n === 1 ? "" : "s"}`;
  const duration = (seconds) =>
    seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;

  // With a space at which no line breaks.
  function percent(p) {
    if (p === 0) return "0\u00a0%";
    if (p >= 0.9995) return "100\u00a0%";
    return p < 0.001 ? "<0.1\u00a0%" : `${(100 * p).toFixed(1)}\u00a0%`;
  }

  // Base64 as bytes and as float32 numbers.
  const bytes = (text) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
  const floats = (text) => new Float32Array(bytes(text).buffer);

  // An element: el("span", { class: "c", text: "a" }, child, …)
  function el(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "text") node.textContent = value;
      else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (value !== false && value !== null) node.setAttribute(name, value === true ? "" : value);
    }
    node.append(...children);
    return node;
  }

  // An element of a drawing.
  function svg(tag, attributes = {}, text = "") {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.textContent = text;
    return node;
  }

  // Copies a text, and tells whether that worked. The browser has no Clipboard API for a page that comes from
  // another machine by plain http.
  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      return copySelected(text);
    }
  }

  function copySelected(text) {
    const focused = document.activeElement;
    const selection = document.getSelection();
    const ranges = Array.from({ length: selection.rangeCount }, (_, i) => selection.getRangeAt(i));
    const area = el("textarea", { readonly: true, style: "position: fixed; top: 0; opacity: 0", text });
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    focused.focus({ preventScroll: true });
    selection.removeAllRanges();
    for (const range of ranges) selection.addRange(range);
    return copied;
  }

  // What the server answers, or an error.
  const answered = (asked) =>
    asked.catch(() => ({ error: "The server did not answer: please try again.", isLost: true }));

  // The error of an answer, and a button to ask `again` where the answer was lost.
  const trouble = ({ error, isLost }, again) =>
    isLost ? [`${error} `, el("button", { type: "button", text: "Try again", onclick: again })] : [error];

  // Asks the server for what was wanted last, one question at a time, and shows the answer unless more is wanted by
  // then. Null is no question; `node` is busy meanwhile.
  function latest(node, ask, show) {
    let wanted = null;
    let busy = false;
    return async (question) => {
      wanted = question;
      node.setAttribute("aria-busy", `${question !== null}`);
      if (busy) return;
      busy = true;
      try {
        while (wanted) {
          const now = wanted;
          const answer = await answered(ask(now));
          if (wanted !== now) continue;
          wanted = null;
          node.setAttribute("aria-busy", "false");
          show(answer, now);
        }
      } finally {
        busy = false;
      }
    };
  }

  // A box for the `characters` of a text.
  const textBox = (label, attributes = {}) =>
    el("div", { class: "text", role: "listbox", "aria-label": label, translate: "no", ...attributes });

  // The characters of a text, of which one can be chosen.
  function characters(text) {
    return [...text].flatMap((char, i) => {
      const attributes = {
        class: "ch",
        role: "option",
        "aria-selected": "false",
        "aria-label": `${spoken(char)}, ${i}`,
        "data-i": i,
        tabindex: -1,
      };
      const node = el("span", attributes, char === " " ? " " : glyph(char));
      return char === "\n" ? [node, "\n"] : [node];
    });
  }

  // A row of a bar chart: a bar that fills `share` of its track, between its label, text or an element, and
  // its value in words. `mark` is another share, drawn as a line across the bar; `kind` is a class: chosen,
  // rest or cut.
  function bar({ label, share, value = percent(share), mark = null, kind = "", ...attributes }) {
    const track = el(
      "span",
      { class: "bar-track" },
      el("span", { class: "bar", style: `width:${100 * share}%` }),
    );
    if (mark !== null) track.append(el("span", { class: "mark", style: `left:${100 * mark}%` }));
    return el(
      "div",
      { class: `bar-row ${kind}`, ...attributes },
      el("span", { class: "bar-label" }, label),
      track,
      el("span", { class: "bar-value", text: value }),
    );
  }

  // A bar for each of `rows`, and one for the `more` that are not shown and fill `rest` together.
  function bars(rows, more, rest) {
    const left = more > 0 ? [{ label: `${more} more`, share: rest, kind: "rest" }] : [];
    return [...rows, ...left].map(bar);
  }

  // The colour of a value from −1 to 1: indigo for what is positive, orange for what is negative.
  function colour(x) {
    const sign = x < 0 ? "var(--negative)" : "var(--positive)";
    return `color-mix(in srgb, ${sign} ${(100 * Math.min(1, Math.abs(x))).toFixed(1)}%, transparent)`;
  }

  // The same as a background, on which text can be read.
  const heat = (x) => colour(0.7 * Math.max(-1, Math.min(1, x)));

  // A key to colours: what `entries`, pairs of a text and a colour, say after a title.
  function scale(title, entries) {
    const entry = ([text, background]) =>
      el("span", {}, el("span", { class: "swatch", style: `background: ${background}` }), text);
    return el("p", { class: "scale" }, title, ...entries.flatMap((e) => [" ", entry(e)]));
  }

  // The colours of the page as [r, g, b], for a canvas.
  function colours() {
    const style = getComputedStyle(document.querySelector(".charlm-view"));
    function read(name) {
      const pairs = style.getPropertyValue(name).match(/\w\w/g);
      return pairs.map((pair) => parseInt(pair, 16));
    }
    return { positive: read("--positive"), negative: read("--negative"), ink: read("--ink") };
  }

  // Draws n × n values from −1 to 1, the i-th of them heatAt(i), one pixel a value. What is masked is null.
  function paint(canvas, n, heatAt) {
    const { positive, negative, ink } = colours();
    canvas.width = canvas.height = n;
    const context = canvas.getContext("2d");
    const image = context.createImageData(n, n);
    for (let i = 0; i < n * n; i++) {
      const x = heatAt(i);
      const colour = x === null ? ink : x < 0 ? negative : positive;
      image.data.set([...colour, 255 * (x === null ? 0.12 : Math.abs(x))], 4 * i);
    }
    context.putImageData(image, 0, 0);
  }

  // A small picture of n × n weights, given as bytes. The opacity of a weight is its square root, so that
  // small ones can be seen too.
  function thumbnail(n, weights, attributes) {
    const canvas = el("canvas", attributes);
    paint(canvas, n, (i) => Math.sqrt(weights[i] / 255));
    return canvas;
  }

  // Makes the items of `box`, those that match `selector`, one stop of the Tab key, through which the arrow
  // keys, Home and End lead; the one that is reached stays in sight. `choose(item, i)` hears of every item that
  // a key, the mouse or a finger reaches. What is in the box may change: `begin(i)` says where Tab leads then.
  function walk(box, selector, choose) {
    const items = () => [...box.querySelectorAll(selector)];
    function begin(i) {
      items().forEach((item, j) => {
        item.tabIndex = i === j ? 0 : -1;
      });
    }
    function reached({ target }) {
      const item = target.closest(selector);
      if (item && box.contains(item)) choose(item, items().indexOf(item));
    }
    function follow(event) {
      const all = items();
      const i = all.indexOf(event.target.closest(selector));
      const next = i < 0 ? -1 : neighbour(all, i, event.key);
      if (next < 0) return;
      event.preventDefault();
      event.stopPropagation();
      all[next].focus({ preventScroll: true });
      all[next].scrollIntoView({ block: "nearest", inline: "nearest" });
    }
    box.addEventListener("focusin", (event) => {
      reached(event);
      begin(items().indexOf(event.target.closest(selector)));
    });
    box.addEventListener("pointerover", reached);
    box.addEventListener("click", reached);
    box.addEventListener("keydown", follow);
    begin(0);
    return { begin };
  }

  // Where a key leads from the i-th of the items, or −1: left and right in their order, up and down to the
  // nearest one of another line.
  function neighbour(items, i, key) {
    const last = items.length - 1;
    const move = { ArrowLeft: Math.max(0, i - 1), ArrowRight: Math.min(last, i + 1), Home: 0, End: last }[
      key
    ];
    if (move !== undefined) return move;
    if (key !== "ArrowUp" && key !== "ArrowDown") return -1;
    const place = (item) => {
      const box = item.getBoundingClientRect();
      return [(box.left + box.right) / 2, (box.top + box.bottom) / 2, box.height];
    };
    const [x, y, height] = place(items[i]);
    const away = key === "ArrowDown" ? 1 : -1;
    let [nearest, least] = [i, Infinity];
    for (let j = i + away; j >= 0 && j <= last; j += away) {
      const [x2, y2] = place(items[j]);
      const lines = (away * (y2 - y)) / height;
      if (lines < 0.5) continue;
      const distance = Math.abs(x2 - x) + 1000 * Math.round(lines);
      if (distance < least) [nearest, least] = [j, distance];
    }
    return nearest;
  }

  // What a term means, beside it: where no box cuts it off. Escape puts it away.
  function placeMeaning({ target }) {
    const term = target.closest?.(".term");
    if (!term) return;
    const [at, meaning] = [term.getBoundingClientRect(), term.querySelector(".meaning")];
    const left = Math.min(at.left, document.documentElement.clientWidth - meaning.offsetWidth - 8);
    const below = at.bottom + meaning.offsetHeight < innerHeight;
    meaning.style.left = `${Math.max(8, left)}px`;
    meaning.style.top = `${below ? at.bottom : at.top - meaning.offsetHeight}px`;
  }
  document.addEventListener("pointerover", placeMeaning);
  document.addEventListener("focusin", placeMeaning);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") event.target.closest(".term")?.blur();
  });

  // The labels along the top or the left edge: all if there is room for them, else every second, fifth, …
  function edge(side, labels, most) {
    const n = labels.length;
    const step = [1, 2, 5, 10, 20, 50].find((s) => n / s <= most) ?? 100;
    const start = side === "top" ? "left" : "top";
    const label = (text, i) => el("span", { style: `${start}:${(100 * (i + 0.5)) / n}%` }, glyphs(`${text}`));
    return el("div", { class: `labels ${side}` }, ...labels.map(label).filter((_, i) => i % step === 0));
  }

  // Lines around one row and one column of n, put there by mark(row, column); null is for none.
  function crossHair(n) {
    let marked = [null, null];
    const lines = marked.map(() => el("div", { class: "cross", hidden: true }));
    function put(line, place, start, size) {
      line.hidden = place === null;
      line.style[start] = `${(100 * place) / n}%`;
      line.style[size] = `${100 / n}%`;
    }
    function mark(row, column) {
      marked = [row, column];
      put(lines[0], row, "top", "height");
      put(lines[1], column, "left", "width");
    }
    return { lines, mark, marked: () => marked };
  }

  // Calls point(row, column) with the cell of the n × n canvas on a board that the pointer is on, or to which
  // an arrow key leads from the cell marked().
  function listen(board, canvas, n, marked, point) {
    const within = (place) => Math.max(0, Math.min(n - 1, place));
    function followPointer(event) {
      const box = canvas.getBoundingClientRect();
      const place = (offset, length) => within(Math.floor((n * offset) / length));
      point(place(event.clientY - box.top, box.height), place(event.clientX - box.left, box.width));
    }
    function followKeys(event) {
      const move = ARROWS[event.key];
      if (!move) return;
      event.preventDefault();
      point(...marked().map((place, axis) => within((place ?? -1) + move[axis])));
    }
    board.addEventListener("pointermove", followPointer);
    board.addEventListener("pointerdown", followPointer);
    board.addEventListener("keydown", followKeys);
  }

  // A heat map with a row and a column for each of `labels`, characters or numbers, painted by `heatAt`;
  // `axes` may name its `rows` and its `columns`; at `most` so many labels stand along an edge.
  // `point(row, column)` hears of every cell pointed at, by mouse, finger or arrow keys.
  // Returns the figure, and `mark(row, column)`, which puts the cross-hair there.
  function heatMap({ name, title = name, caption, labels, most = MAX_LABELS, axes = {}, heatAt, point }) {
    const n = labels.length;
    const canvas = el("canvas", { "data-map": name });
    paint(canvas, n, heatAt);
    const cross = crossHair(n);
    const attributes = {
      class: "board",
      tabindex: 0,
      role: "application",
      "aria-roledescription": "heat map",
      "aria-label": `${title}: ${caption}`,
    };
    const board = el("div", attributes, canvas, ...cross.lines);
    listen(board, canvas, n, cross.marked, point);
    const figure = el(
      "figure",
      { class: "heat-map" },
      el("figcaption", {}, el("b", { text: title }), ` ${caption}`),
      ...Object.entries(axes).map(([axis, text]) => el("span", { class: axis, text })),
      edge("top", labels, most),
      edge("left", labels, most),
      board,
    );
    return { figure, mark: cross.mark };
  }

  return {
    MAX_LABELS,
    glyph,
    glyphs,
    ending,
    count,
    many,
    duration,
    percent,
    bytes,
    floats,
    el,
    copy,
    bar,
    bars,
    svg,
    spoken,
    answered,
    trouble,
    latest,
    textBox,
    characters,
    colour,
    heat,
    scale,
    walk,
    neighbour,
    thumbnail,
    heatMap,
  };
})();
