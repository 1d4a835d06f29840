// Text as it is written: appends what is new, tints by probability, and tells what each character was drawn
// from.
const { el, glyphs, ending, count, percent, copy, bars } = window.charlm;

const title = el("strong");
const status = el("span", { class: "status", role: "status" });
const tint = el("input", { type: "checkbox" });
const button = (text, onclick, tooltip = null) =>
  el("button", { type: "button", text, onclick, title: tooltip });
const linkButton = button("Link", copyLink, "Copy a link that writes this text again");
const copyButton = button("Copy", copyText);
const download = button("Download", downloadText);
const page = el("div", { class: "page", translate: "no", tabindex: "0", "aria-label": "Generated text" });
const legend = el(
  "div",
  { class: "legend" },
  el("span", { text: "likely" }),
  el("span", { class: "ramp" }),
  el("span", { text: "surprising" }),
);
const chart = el("div", { class: "chart" });
element
  .querySelector(".text_view")
  .append(
    el(
      "div",
      { class: "toolbar" },
      title,
      el("label", {}, tint, " tint by probability"),
      linkButton,
      copyButton,
      download,
      status,
    ),
    page,
    legend,
    chart,
  );

let shown = { id: null, length: 0, stopped: false };
let chars = [];
let pinned = null;

function hint() {
  const text = "Point at a character, or tap it, to see what it was drawn from.";
  chart.replaceChildren(el("p", { class: "hint", text }));
}

function begin({ id, title: name, prompt }) {
  shown = { id, length: 0, stopped: false };
  chars = [];
  pinned = null;
  title.textContent = name;
  page.replaceChildren(el("span", { class: "prompt", text: prompt }));
  hint();
}

function draw() {
  const value = props.value;
  if (!value?.id) {
    const text = "Press Generate, and the model writes here.";
    page.replaceChildren(el("span", { class: "hint", translate: "yes", text }));
    return;
  }
  if (value.id !== shown.id) begin(value);
  const atEnd = page.scrollHeight - page.scrollTop - page.clientHeight < 40;
  const lines = value.steps.slice(shown.length).split("\n").slice(0, -1);
  shown.length = value.steps.length;
  page.append(...lines.map(write));
  if (atEnd) page.scrollTop = page.scrollHeight;
  tell();
}

// The character that a line of JSON tells of.
function write(line) {
  const [char, p, alternatives, more] = JSON.parse(line);
  chars.push({ char, p, alternatives, more });
  // Surprise in nats, up to 5, sets the tint.
  const surprise = Math.min(1, -Math.log(Math.max(p, 1e-9)) / 5);
  const style = `--surprise:${surprise.toFixed(3)}`;
  return el("span", { class: "ch", "data-i": chars.length - 1, style, text: char });
}

function tell() {
  const { place, done, seconds, settings } = props.value;
  if (place > 0) {
    status.textContent = `busy: ${place === 1 ? "next" : `number ${place}`} in line`;
    return;
  }
  const state = done ? "" : shown.stopped ? "stopped, " : "writing, ";
  const speed = seconds > 0 ? `, ${count(Math.round(chars.length / seconds))} per second` : "";
  status.textContent = `${state}${chars.length} characters${speed}, seed ${settings.seed}`;
}

function explain(i) {
  page.querySelector(".chosen")?.classList.remove("chosen");
  if (i === null || !chars[i]) {
    hint();
    return;
  }
  page.querySelector(`[data-i="${i}"]`).classList.add("chosen");
  const { char, p } = chars[i];
  chart.replaceChildren(
    el(
      "p",
      {},
      "After ",
      el("code", {}, glyphs(ending(written(i)))),
      " it drew ",
      el("code", {}, glyphs(char)),
      `, with probability ${percent(p)}.`,
    ),
    ...distribution(chars[i]),
  );
}

// The likeliest characters and the one that was drawn, which may not be among them.
function distribution({ char, p, alternatives, more }) {
  const isAmongThem = alternatives.some(([c]) => c === char);
  const named = isAmongThem ? alternatives : [...alternatives, [char, p]];
  const rows = named.map(([c, share]) => ({ label: glyphs(c), share, kind: c === char ? "chosen" : "" }));
  const sum = rows.reduce((total, row) => total + row.share, 0);
  return bars(rows, isAmongThem ? more : more - 1, Math.max(0, 1 - sum));
}

// The prompt and the first n characters after it.
const written = (n) =>
  props.value.prompt +
  chars
    .slice(0, n)
    .map((c) => c.char)
    .join("");

tint.addEventListener("change", () => page.classList.toggle("tinted", tint.checked));

const indexOf = ({ target }) => (target.dataset.i === undefined ? null : +target.dataset.i);
page.addEventListener("pointerover", (event) => {
  if (pinned === null && indexOf(event) !== null) explain(indexOf(event));
});
page.addEventListener("pointerleave", () => {
  if (pinned === null) explain(null);
});
page.addEventListener("click", (event) => {
  pinned = indexOf(event) === pinned ? null : indexOf(event);
  explain(pinned);
});
page.addEventListener("keydown", (event) => {
  const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!move || !chars.length) return;
  event.preventDefault();
  pinned = Math.min(chars.length - 1, Math.max(0, (pinned ?? -1) + move));
  explain(pinned);
});

const wholeText = () => (props.value?.id ? written(chars.length) : "");

// Copies a text, and says so for a moment on the button that was pressed.
async function toClipboard(pressed, label, text) {
  pressed.textContent = (await copy(text)) ? "Copied" : "Not copied";
  setTimeout(() => {
    pressed.textContent = label;
  }, 1200);
}

function copyText() {
  toClipboard(copyButton, "Copy", wholeText());
}

function copyLink() {
  if (!props.value?.id) return;
  const { prompt, link, settings } = props.value;
  const query = new URLSearchParams({ prompt, ...link, ...settings });
  toClipboard(linkButton, "Link", `${location.origin}${location.pathname}?${query}`);
}

function downloadText() {
  const url = URL.createObjectURL(new Blob([wholeText()], { type: "text/plain" }));
  el("a", { href: url, download: `charlm-${props.value?.title ?? "text"}.txt` }).click();
  URL.revokeObjectURL(url);
}

document.addEventListener("charlm-stop", () => {
  if (!props.value?.id || props.value.done) return;
  shown.stopped = true;
  tell();
});
hint();
watch("value", draw);
draw();
