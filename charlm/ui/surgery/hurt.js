// What an operation does to the learner's text, character by character: where does it hurt?
window.charlm.hurt = () => {
  const { el, glyphs, textBox, characters, percent, heat, scale, walk } = window.charlm;
  const FULL_NATS = 3; // From where on a change has the full colour.
  const ENTRIES = [-3, -1, 0, 1, 3];

  const mean = el("p", { class: "told", role: "status" });
  const text = textBox("The text: how its loss changed");
  const say = el("p", { class: "say", role: "status" });
  const signed = (x, digits = 2) => `${x < 0 ? "−" : "+"}${Math.abs(x).toFixed(digits)}`;
  const tint = (nats) => heat(-nats / FULL_NATS);
  const node = el(
    "section",
    { class: "hurt" },
    el("h3", { text: "Where does it hurt? Your text" }),
    mean,
    text,
    scale(
      "Change of the loss, in nats:",
      ENTRIES.map((nats) => [nats ? signed(nats, 0) : "0", tint(nats)]),
    ),
    say,
  );
  let shown = null;
  let chosen = 0;

  const average = (losses) => losses.reduce((total, loss) => total + loss, 0) / losses.length;

  function tell(i) {
    chosen = i;
    const char = [...shown.text][i];
    if (i === 0) {
      say.replaceChildren(glyphs(char), " (0) comes first: nobody guesses it.");
      return;
    }
    const [before, after] = [shown.before[i - 1], shown.after[i - 1]];
    say.replaceChildren(
      glyphs(char),
      ` (${i}): the model gave it ${percent(Math.exp(-before))}, and now ${percent(Math.exp(-after))}: `,
      `−ln p from ${before.toFixed(2)} to ${after.toFixed(2)} nats, ${signed(after - before)}.`,
    );
  }

  // Where it hurts most.
  function worst({ before, after }) {
    const change = after.map((loss, i) => loss - before[i]);
    return change.indexOf(Math.max(...change)) + 1;
  }

  function show(effect) {
    const same = shown?.text === effect.text;
    shown = effect;
    const n = effect.before.length;
    if (!same) text.replaceChildren(...characters(effect.text));
    for (const char of text.querySelectorAll(".ch")) {
      const i = +char.dataset.i;
      char.style.background = i ? tint(effect.after[i - 1] - effect.before[i - 1]) : "";
    }
    mean.textContent = n
      ? `On average, a character of your text costs ${average(effect.before).toFixed(2)} nats before and ${average(effect.after).toFixed(2)} after.`
      : "Type two characters or more: each but the first is guessed from those before it.";
    const focused = text.contains(document.activeElement);
    chosen = n && !focused ? worst(effect) : Math.min(chosen, n);
    walked.begin(chosen);
    tell(chosen);
  }

  function fail(sentence) {
    shown = null;
    mean.textContent = sentence;
    text.replaceChildren();
    say.replaceChildren();
  }

  const walked = walk(text, ".ch", (_, i) => {
    for (const [j, char] of [...text.querySelectorAll(".ch")].entries())
      char.setAttribute("aria-selected", `${j === i}`);
    tell(i);
  });
  return { node, show, fail };
};
