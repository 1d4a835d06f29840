// The same seed's text by the model before and after, written where it can be seen and played in step.
window.charlm.pair = () => {
  const { el, pane, player } = window.charlm;
  const LENGTH = 200;
  const PACE = 40; // Characters a second.
  const FIRST_SEED = 1337;
  const PATIENCE = 400; // Milliseconds, in which more edits may follow.
  const still = matchMedia("(prefers-reduced-motion: reduce)");

  const playButton = el("button", { type: "button", onclick: play });
  const seedButton = el("button", { type: "button", onclick: reseed, text: "Another seed" });
  const told = el("p", { class: "told", role: "status" });
  const panes = el("div", { class: "panes typed tinted" });
  const node = el(
    "section",
    { class: "pair" },
    el("h3", { text: "Does it still write? Before and after" }),
    told,
    el("div", { class: "buttons" }, playButton, seedButton),
    panes,
  );
  let asked = null; // What is to be written: both models and a prompt,
  let texts = []; // and what is on the screen of it.
  let seed = FIRST_SEED;
  let seen = false;
  let timer = 0;

  const pace = () => (still.matches ? Infinity : PACE);
  const playback = player({ element: node, texts: () => texts, pace, moved: tell });

  function tell() {
    const isOver = texts.length > 0 && playback.isOver();
    const atEnd = isOver && playback.place() >= playback.length();
    const label = playback.playing() ? "Pause" : atEnd ? "Again" : "Play";
    if (playButton.textContent !== label) playButton.textContent = label;
    playButton.disabled = seedButton.disabled = texts.length === 0;
    const failed = texts.find(({ error }) => error);
    const words = failed
      ? failed.error.message
      : `Both go on from your text with seed ${seed} at temperature 0.8${isOver ? "." : ": writing …"}`;
    if (told.textContent !== words) told.textContent = words;
  }

  // Both models and a prompt; null for nothing.
  function want(wanted) {
    if (JSON.stringify(wanted) === JSON.stringify(asked)) return;
    clear();
    asked = wanted;
    writeSoon();
  }

  function clear() {
    clearTimeout(timer);
    for (const text of texts) text.stop();
    texts = [];
    panes.replaceChildren();
    playback.set(false);
  }

  function writeSoon() {
    clearTimeout(timer);
    if (asked && seen && !texts.length) timer = setTimeout(write, PATIENCE);
  }

  function write() {
    if (!node.checkVisibility()) return;
    const settings = { temperature: 0.8, topK: 0, topP: 1, length: LENGTH, seed, prompt: asked.prompt };
    texts = [asked.original, asked.changed].map((model) => pane({ ...settings, model }, playback.changed));
    panes.replaceChildren(...texts.map((text) => text.node));
    for (const text of texts) text.write();
    playback.seek(0);
    playback.set(true);
  }

  function play() {
    playback.toggle();
  }

  function reseed() {
    clear();
    seed += 1;
    write();
  }

  // Nothing is written where nobody sees it.
  function look(entries) {
    seen = entries.at(-1).isIntersecting;
    if (seen) writeSoon();
    else if (!node.checkVisibility() && (texts.length === 0 || !playback.isOver())) clear();
  }

  new IntersectionObserver(look).observe(node);
  tell();
  return { node, want, seed: () => seed };
};
