// The guess at one place of a text: what the model believed, what it drew from, and the draw itself. Each other
// character can be put there instead.
window.charlm.guessPanel = (() => {
  const { el, glyphs, ending, percent, guesses } = window.charlm;
  const ROWS = 8;
  const SAME = 1e-9;

  // A row: the character, a bar for what is believed and one for what is drawn from, and both in numbers.
  function row({ label, believed, drawn, kind, put }) {
    const track = (share, name) =>
      el("span", { class: `track ${name}` }, el("span", { style: `width:${(100 * share).toFixed(2)}%` }));
    const name = put
      ? el("button", { type: "button", onclick: put, title: "What if it had been this one?" }, label)
      : el("span", {}, label);
    name.classList.add("bar-label");
    return el(
      "div",
      { class: `guess-row ${kind}` },
      name,
      el("span", { class: "tracks" }, track(believed, "believed"), track(drawn, "drawn")),
      el("span", { class: "bar-value believed", text: percent(believed) }),
      el("span", { class: "bar-value drawn", text: drawn > 0 ? percent(drawn) : "cut" }),
    );
  }

  // The likeliest candidates, the one in the text, and the others together.
  function rows(guess, settings, put) {
    const believed = guesses.believed(guess);
    const drawn = guesses.drawnFrom(guess, settings);
    const shown = guess.candidates.map((_, i) => i).filter((i) => i < ROWS || i === guess.place);
    const others = guess.candidates.length + guess.left - shown.length;
    const list = shown.map((i) => {
      const { char } = guess.candidates[i];
      const kind = i === guess.place ? "chosen" : drawn.shares[i] > 0 ? "" : "cut";
      const canPut = put && i !== guess.place;
      return row({
        label: glyphs(char),
        believed: believed.shares[i],
        drawn: drawn.shares[i],
        kind,
        put: canPut ? () => put(char) : null,
      });
    });
    if (others > 0) {
      const together = ({ shares }) => Math.max(0, 1 - shown.reduce((total, i) => total + shares[i], 0));
      list.push(
        row({ label: `${others} more`, believed: together(believed), drawn: together(drawn), kind: "rest" }),
      );
    }
    return list;
  }

  // The unit interval, divided among the characters in the order of the vocabulary, and where the number fell.
  function draw(guess, settings) {
    const { shares } = guesses.drawnFrom(guess, settings);
    const { char, id } = guess.candidates[guess.place];
    const listed = guess.candidates.map((candidate, i) => ({ ...candidate, share: shares[i], i }));
    const segments = [];
    let at = 0;
    // Those that are not listed one by one have what is left between: it is not known exactly where.
    for (const candidate of listed.sort((a, b) => a.id - b.id)) {
      if (candidate.id === id) at = guess.reached;
      segments.push({ ...candidate, at });
      at += candidate.share;
    }
    const piece = ({ char: name, share, at: start, i }) =>
      el(
        "span",
        {
          class: i === guess.place ? "piece chosen" : "piece",
          style: `left:${(100 * start).toFixed(2)}%; width:${(100 * share).toFixed(2)}%`,
        },
        share > 0.06 ? glyphs(name) : "",
      );
    const fell = `The number ${guess.uniform.toFixed(3)} fell on “${char}”, which has ${guess.reached.toFixed(3)} to ${(guess.reached + shares[guess.place]).toFixed(3)}`;
    return [
      el(
        "div",
        { class: "strip", role: "img", "aria-label": fell },
        ...segments.filter(({ share }) => share > 0).map(piece),
        el("span", { class: "fell", style: `left:${(100 * guess.uniform).toFixed(2)}%` }),
      ),
      el(
        "p",
        { class: "fell-on" },
        `The draw: ${guess.uniform.toFixed(3)} fell on `,
        el("code", {}, glyphs(char)),
        ".",
      ),
    ];
  }

  const same = (a, b) =>
    Math.abs(a.temperature - b.temperature) < SAME && a.topK === b.topK && Math.abs(a.topP - b.topP) < SAME;

  // Fills `node` with the guess at a place, and `sentence` with what it comes to: `before` is the text before
  // it, `asked` what it was drawn with, `settings` what the controls say now, and put(char) writes on with
  // another character.
  function show(node, sentence, { guess, before, asked, settings, kind, put }) {
    const { char } = guess.candidates[guess.place];
    const said = { drawn: " it drew ", forced: " you put ", prompt: " you wrote " }[kind];
    const fits = same(asked, settings);
    const nats = guesses.surprise(guess).toFixed(2);
    sentence.replaceChildren(
      "After ",
      el("code", {}, glyphs(ending(before))),
      said,
      el("code", {}, glyphs(char)),
      `, which it believed in by ${percent(guesses.believed(guess).shares[guess.place])}: a surprise of ${nats} nats.`,
    );
    const drawnFrom = fits || kind !== "drawn" ? "drawn from" : "would draw from";
    const head = el(
      "div",
      { class: "guess-row head" },
      el("span"),
      el("span"),
      el("span", { class: "believed", text: "believes" }),
      el("span", { class: "drawn", text: drawnFrom }),
    );
    const parts = [head, ...rows(guess, settings, put)];
    if (settings.temperature === 0)
      parts.push(
        el("p", { class: "fell-on", text: "At temperature 0 nothing is drawn: the likeliest is taken." }),
      );
    else if (kind === "drawn" && fits) parts.push(...draw(guess, settings));
    else if (kind === "drawn")
      parts.push(
        el("p", {
          class: "fell-on",
          text: "These are the settings as they are now; the text was written with others.",
        }),
      );
    node.replaceChildren(...parts);
  }

  return { show };
})();
