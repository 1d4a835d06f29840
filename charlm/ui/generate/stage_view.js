// The stage of the Generate tab: texts are written by the server as fast as it can, and played back at the pace
// of whoever watches.
const { el, copy, pane, player, guessPanel } = window.charlm;
const PACES = [1, 5, 20, 100, Infinity];
const DEFAULT_PACE = 20;
const GREETING_CHARS = 120;
const address = new URLSearchParams(location.search);

const button = (text, onclick, attributes = {}) =>
  el("button", { type: "button", text, onclick, ...attributes });
const paceName = (pace) => (pace === Infinity ? "as fast as it goes" : `${pace} a second`);
const paces = el(
  "select",
  { id: "pace", "aria-label": "Pace, in characters a second" },
  ...PACES.map((pace) =>
    el("option", { value: pace, selected: pace === DEFAULT_PACE, text: paceName(pace) }),
  ),
);
const playButton = button("Play", () => playback.toggle(), { id: "play" });
const stopButton = button("Stop writing", stop, { id: "stop", hidden: true });
const scrubber = el("input", {
  type: "range",
  min: 0,
  max: 0,
  value: 0,
  step: 1,
  "aria-label": "Place in the text",
});
const status = el("span", { class: "status", role: "status" });
const tint = el("input", { type: "checkbox", checked: true });
const linkButton = button("Link", copyLink, { title: "Copy a link that writes this text again" });
const copyButton = button("Copy", copyText);
const notes = el("div", { class: "stage-notes", role: "alert" });
const panes = el("div", { class: "panes typed tinted" });
const sentence = el("p", { class: "what", role: "status" });
const panel = el("div");
const aside = el("aside", { class: "guess", "aria-label": "The guess at this place" }, sentence, panel);
const legend = el("span", { class: "legend" }, "likely", el("span", { class: "ramp" }), "surprising");
element.querySelector(".stage_view").append(
  el(
    "div",
    { class: "transport" },
    button("◀", () => playback.step(-1), { "aria-label": "One character back", id: "back" }),
    playButton,
    button("▶", () => playback.step(1), { "aria-label": "One character forward", id: "forward" }),
    scrubber,
    paces,
    stopButton,
  ),
  notes,
  el("div", { class: "stage" }, panes, aside),
  el(
    "div",
    { class: "toolbar" },
    status,
    el("label", {}, tint, " tint by surprise"),
    legend,
    linkButton,
    copyButton,
    button("Download", downloadText),
  ),
);

let texts = [];
let settings = { temperature: 0.8, topK: 0, topP: 1 };
let focus = null; // What is pointed at instead of the latest character: { text, at } or { text, prompt }.
let waiting = []; // The branches that a link leads along: [place, character].

const playback = player({ element, texts: () => texts, pace: () => +paces.value, moved });
const { length, isOver } = playback;

// Puts new texts on the stage: `wanted` has a model for each, and the rest of what they are written from.
function begin({ models, ...wanted }, path = []) {
  for (const text of texts) text.stop();
  notes.replaceChildren();
  settings = { temperature: wanted.temperature, topK: wanted.topK, topP: wanted.topP };
  waiting = [...path];
  sentence.replaceChildren();
  panel.replaceChildren();
  texts = models.map((each) => pane({ ...wanted, ...each }, changed));
  panes.replaceChildren(...texts.map(({ node }) => node));
  playback.seek(0);
}

function write(wanted, path) {
  begin(wanted, path);
  for (const text of texts) {
    text.write();
    text.score();
  }
  playback.set(true);
}

// Only tells how surprising a text is.
function score(wanted) {
  begin({ ...wanted, length: 0 });
  if ([...wanted.prompt].length < 2) {
    const error = new Error(
      "Type two characters or more: each but the first is guessed from those before it.",
    );
    complain(error);
  }
  for (const text of texts) {
    text.version.over = true;
    text.score();
  }
  playback.set(false);
}

// Something has come.
function changed() {
  const failed = texts.find(({ error }) => error);
  if (failed) complain(failed.error);
  const [first] = texts;
  if (waiting.length && first?.version.chars.length > waiting[0][0]) {
    const [at, char] = waiting.shift();
    first.branch(at, char);
  }
  playback.changed();
}

function complain(error) {
  const note = el("p", { class: "note", text: error.message });
  if (error.unknown)
    note.append(
      " ",
      button("Drop them", () => replaceUnknown(error.unknown, "")),
      " ",
      button("Replace each by a space", () => replaceUnknown(error.unknown, " ")),
    );
  notes.replaceChildren(note);
}

function replaceUnknown(unknown, replacement) {
  const box = document.querySelector("#prompt textarea");
  const cleaned = [...box.value].map((char) => (unknown.includes(char) ? replacement : char)).join("");
  Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, "value").set.call(box, cleaned);
  box.dispatchEvent(new Event("input", { bubbles: true }));
  setTimeout(() => document.querySelector("#start").click(), 100);
}

function moved(sought) {
  if (sought) focus = null;
  draw();
}

function stop() {
  for (const text of texts) text.stop();
}

function draw() {
  playButton.textContent = playback.playing() ? "Pause" : "Play";
  sentence.setAttribute("aria-live", playback.playing() ? "off" : "polite");
  scrubber.max = length();
  scrubber.value = playback.place();
  scrubber.style.setProperty("--done", `${(100 * playback.place()) / Math.max(1, length())}%`);
  stopButton.hidden = !texts.length || isOver();
  tell();
  showGuess();
}

function tell() {
  const [first] = texts;
  if (!first) return;
  const { version, head, asked } = first;
  const seed = head?.seed ?? asked.seed;
  if (version.place > 0 && !version.over) {
    status.textContent = `busy: ${version.place === 1 ? "next" : `number ${version.place}`} in line`;
    return;
  }
  const state = version.stopped ? "stopped, " : isOver() ? "" : "writing, ";
  const reads =
    head && asked.prompt.length > head.block_size ? `; the model reads the last ${head.block_size}` : "";
  status.textContent = `${state}${version.chars.length} characters${seed === undefined || seed === null ? "" : `, seed ${seed}`}${reads}`;
}

// The guess that is pointed at, or the latest one.
function showGuess() {
  const text = focus?.text ?? texts[0];
  if (!text) return;
  const { asked, version, promptGuesses } = text;
  if (focus?.prompt !== undefined) {
    const guess = promptGuesses[focus.prompt - 1];
    const before = [...asked.prompt].slice(0, focus.prompt).join("");
    if (guess) guessPanel.show(panel, sentence, { guess, before, asked, settings, kind: "prompt" });
    return;
  }
  const at = focus?.at ?? Math.max(0, Math.min(playback.place(), version.chars.length) - 1);
  const here = version.chars[at];
  if (!here) return;
  const before = text.text(at);
  const kind = here.forced ? "forced" : "drawn";
  guessPanel.show(panel, sentence, {
    guess: here.guess,
    before,
    asked,
    settings,
    kind,
    put: (char) => put(text, at, char),
  });
}

// What if there had been another character?
function put(text, at, char) {
  text.branch(at, char);
  focus = null;
  playback.seek(at + 1);
  playback.set(true);
}

function pointedAt({ target }) {
  const text = texts.find(({ node }) => node.contains(target));
  if (target.dataset?.i !== undefined) return { text, at: +target.dataset.i };
  if (target.dataset?.p !== undefined) return { text, prompt: +target.dataset.p };
  return null;
}

panes.addEventListener("pointerover", (event) => {
  if (playback.playing()) return;
  focus = pointedAt(event);
  showGuess();
});
panes.addEventListener("pointerleave", () => {
  if (playback.playing()) return;
  focus = null;
  showGuess();
});
panes.addEventListener("click", (event) => {
  const pointed = pointedAt(event);
  if (!pointed) return;
  playback.set(false);
  if (pointed.at !== undefined) playback.seek(pointed.at + 1);
  focus = pointed;
  showGuess();
});
scrubber.addEventListener("input", () => {
  const wanted = +scrubber.value;
  playback.set(false);
  playback.seek(wanted);
});
paces.addEventListener("change", () => {
  playback.set(playback.playing());
});
tint.addEventListener("change", () => panes.classList.toggle("tinted", tint.checked));

// The address of a link is no longer true once something is changed.
document.addEventListener("input", ({ target }) => {
  if (location.search && !element.contains(target))
    history.replaceState(null, "", location.pathname + location.hash);
});

// Copies a text, and says so for a moment on the button that was pressed.
async function toClipboard(pressed, label, text) {
  pressed.textContent = (await copy(text)) ? "Copied" : "Not copied";
  setTimeout(() => {
    pressed.textContent = label;
  }, 1200);
}

function copyText() {
  if (texts.length) toClipboard(copyButton, "Copy", texts[0].text());
}

function copyLink() {
  const [first] = texts;
  if (!first?.head) return;
  const { asked, head, version } = first;
  const rival = texts.find((text) => text.asked.model !== asked.model);
  const query = new URLSearchParams({
    prompt: asked.prompt,
    ...head.link,
    ...(rival?.head?.link.model ? { rival: rival.head.link.model } : {}),
    samples: texts.filter((text) => text.asked.model === asked.model).length,
    temperature: asked.temperature,
    top_k: asked.topK,
    top_p: asked.topP,
    length: asked.length,
    seed: head.seed,
  });
  if (version.path.length) query.set("path", JSON.stringify(version.path));
  toClipboard(linkButton, "Link", `${location.origin}${location.pathname}?${query}`);
}

function downloadText() {
  if (!texts.length) return;
  const url = URL.createObjectURL(new Blob([texts[0].text()], { type: "text/plain" }));
  el("a", { href: url, download: `charlm-${texts[0].head?.title ?? "text"}.txt` }).click();
  URL.revokeObjectURL(url);
}

// The branches that a link leads along.
function pathOf(link) {
  try {
    const path = JSON.parse(link.get("path") ?? "[]");
    return path.filter(([at, char]) => Number.isInteger(at) && typeof char === "string");
  } catch {
    return [];
  }
}

// What the controls say, in the order in which Gradio tells it.
function wantedOf([prompt, model, rival, temperature, topK, topP, length, seed, samples]) {
  // Two texts of the same model side by side are two samples.
  const models = Array.from({ length: samples }, (_, i) => ({ model, seed: seedOf(seed, i) }));
  if (rival !== "nobody") {
    const first = rival === model ? samples : 0;
    for (let i = 0; i < samples; i++)
      models.push({ model: rival, seed: seedOf(seed, first + i), rival: true });
  }
  return { models, prompt, temperature, topK, topP, length };
}

// The seed of the i-th sample of a model. What is no number is for the server to refuse.
function seedOf(typed, i) {
  if (typed.trim() === "") return null;
  const seed = Number(typed);
  return Number.isNaN(seed) ? typed : seed + i;
}

window.charlm.stage = {
  write(...values) {
    write(wantedOf(values));
    element.scrollIntoView({ block: "nearest" });
    texts[0].page.focus({ preventScroll: true });
  },
  score: (...values) => score(wantedOf(values)),
  // A link's text is written along its path; whoever just comes is greeted by a short one.
  open(...values) {
    const wanted = wantedOf(values);
    if (address.has("prompt")) write(wanted, pathOf(address));
    else {
      const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
      if (still) paces.value = "Infinity";
      write({ ...wanted, length: Math.min(wanted.length, GREETING_CHARS) });
    }
  },
  // A rival that was taken away leaves the screen, and so does one that was another.
  leave(rival) {
    const gone = texts.filter(({ asked }) => asked.rival && asked.model !== rival);
    for (const text of gone) text.stop();
    texts = texts.filter((text) => !gone.includes(text));
    panes.replaceChildren(...texts.map(({ node }) => node));
    if (gone.includes(focus?.text)) focus = null;
    draw();
  },
  set(temperature, topK, topP) {
    settings = { temperature, topK, topP };
    showGuess();
  },
  shown: () => (texts.length ? [texts[0].text(), texts[0].asked.model] : null),
};
