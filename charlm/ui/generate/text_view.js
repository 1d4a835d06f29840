// Text as it is written: appends what is new, tints by probability, and tells what each character was drawn from.
const { el, visible, bars, percent } = window.charlm;

const title = el("strong");
const status = el("span", { class: "status", role: "status" });
const tint = el("input", { type: "checkbox" });
const link = el("button", { type: "button", text: "Link", title: "Copy a link that writes this text again", onclick: () => copyLink() });
const copy = el("button", { type: "button", text: "Copy", onclick: () => copyText() });
const download = el("button", { type: "button", text: "Download", onclick: () => downloadText() });
const page = el("div", { class: "page", tabindex: "0", "aria-label": "Generated text" });
const chart = el("div", { class: "chart" });
element.querySelector(".text_view").append(
  el("div", { class: "toolbar" }, title,
    el("label", {}, tint, " tint by probability"), link, copy, download, status),
  page,
  el("div", { class: "legend" }, el("span", { text: "likely" }), el("span", { class: "ramp" }), el("span", { text: "surprising" })),
  chart,
);

let shown = { id: null, length: 0 };
let chars = [];
let pinned = null;

tint.addEventListener("change", () => page.classList.toggle("tinted", tint.checked) || legend());
const legend = () => (element.querySelector(".legend").style.visibility = tint.checked ? "visible" : "hidden");
legend();
hint();

function hint() {
  chart.replaceChildren(el("p", { class: "hint", text: "Point at a character, or tap it, to see what it was drawn from." }));
}

function begin(value) {
  shown = { id: value.id, length: 0, stopped: false };
  chars = [];
  pinned = null;
  title.textContent = value.title;
  page.replaceChildren(el("span", { class: "prompt", text: value.prompt }));
  hint();
}

function draw() {
  const value = props.value;
  if (!value || !value.id) {
    page.replaceChildren(el("span", { class: "hint", text: "Press Generate, and the model writes here." }));
    return;
  }
  if (value.id !== shown.id) begin(value);
  const atEnd = page.scrollHeight - page.scrollTop - page.clientHeight < 40;
  const lines = value.steps.slice(shown.length).split("\n").slice(0, -1);
  shown.length = value.steps.length;
  page.append(...lines.map((line) => {
    const [char, p, alternatives, more] = JSON.parse(line);
    chars.push({ char, p, alternatives, more });
    // Surprise in nats, up to 5, sets the tint.
    const surprise = Math.min(1, -Math.log(Math.max(p, 1e-9)) / 5);
    return el("span", { class: "ch", "data-i": chars.length - 1, style: `--surprise:${surprise.toFixed(3)}`, text: char });
  }));
  if (atEnd) page.scrollTop = page.scrollHeight;
  tell();
}

function tell() {
  const value = props.value;
  const speed = value.seconds > 0 ? `, ${Math.round(chars.length / value.seconds).toLocaleString("en")} per second` : "";
  if (value.place > 0) return (status.textContent = `busy: ${value.place === 1 ? "next" : `number ${value.place}`} in line`);
  const state = value.done ? "" : shown.stopped ? "stopped, " : "writing, ";
  status.textContent = `${state}${chars.length} characters${speed}, seed ${value.settings.seed}`;
}

function explain(i) {
  page.querySelector(".chosen")?.classList.remove("chosen");
  if (i === null || !chars[i]) return hint();
  page.querySelector(`[data-i="${i}"]`).classList.add("chosen");
  const { char, p, alternatives, more } = chars[i];
  const rows = alternatives.map(([c, q]) => [visible(c), q, c === char ? "chosen" : ""]);
  if (!alternatives.some(([c]) => c === char)) rows.push([visible(char), p, "chosen"]);
  const named = rows.reduce((sum, [, q]) => sum + q, 0);
  const others = more - (rows.length - alternatives.length);
  if (others > 0) rows.push([`${others} more`, Math.max(0, 1 - named), "rest"]);
  const before = (props.value.prompt + chars.slice(0, i).map((c) => c.char).join("")).slice(-24);
  chart.replaceChildren(
    el("p", {}, "After ", el("code", { text: [...before].map(visible).join("") }), " it drew ",
      el("code", { text: visible(char) }), `, with probability ${percent(p)}.`),
    ...bars(rows));
}

const indexOf = (event) => event.target.dataset?.i ?? null;
page.addEventListener("pointerover", (e) => pinned === null && indexOf(e) !== null && explain(+indexOf(e)));
page.addEventListener("pointerleave", () => pinned === null && explain(null));
page.addEventListener("click", (e) => {
  pinned = indexOf(e) === null || +indexOf(e) === pinned ? null : +indexOf(e);
  explain(pinned);
});
page.addEventListener("keydown", (e) => {
  const move = { ArrowLeft: -1, ArrowRight: 1 }[e.key];
  if (!move || !chars.length) return;
  e.preventDefault();
  pinned = Math.min(chars.length - 1, Math.max(0, (pinned ?? -1) + move));
  explain(pinned);
});

const text = () => (props.value?.id ? props.value.prompt + chars.map((c) => c.char).join("") : "");
async function toClipboard(button, what) {
  const label = button.textContent;
  await navigator.clipboard.writeText(what);
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = label), 1200);
}
const copyText = () => toClipboard(copy, text());
const address = () => `${location.origin}${location.pathname}?${new URLSearchParams({ prompt: props.value.prompt, model: props.value.model, ...props.value.settings })}`;
const copyLink = () => props.value?.id && toClipboard(link, address());
function downloadText() {
  const url = URL.createObjectURL(new Blob([text()], { type: "text/plain" }));
  el("a", { href: url, download: `charlm-${props.value?.title ?? "text"}.txt` }).click();
  URL.revokeObjectURL(url);
}

document.addEventListener("charlm-stop", () => {
  if (!props.value?.id || props.value.done) return;
  shown.stopped = true;
  tell();
});
watch("value", draw);
draw();
