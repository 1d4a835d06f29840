// What the scripts of the Attention tab have in common: what heads are called and what was changed of them, the
// colours of weights, and a choice.
window.charlm.attending = (() => {
  const { el, colour, heat } = window.charlm;
  const TINT = 0.8; // Dark enough to be seen, light enough to be read on.
  const STEPS = [0, 0.01, 0.05, 0.25, 1]; // Weights of which the scales show the colour.

  // The colour of a weight: its opacity is the square root, so that small ones can be seen too. In the text it
  // is lighter than in the maps.
  const shade = (weight) => colour(Math.sqrt(weight));
  const tint = (weight) => heat(TINT * Math.sqrt(weight));

  const signed = (x) => String(+x.toFixed(2)).replace("-", "−");

  // The entries of a scale: numbers, each with its colour.
  const keyOf = (values, colourOf) => values.map((value) => [signed(value), colourOf(value)]);

  const nameOf = (layer, head) =>
    layer < 0 ? "All heads, averaged" : `Layer ${layer + 1}, head ${head + 1}`;

  // What becomes of a head by `settings` of parts: learned, average, silent, off (its whole layer) or a factor
  // such as x1.5.
  function settingOf(settings, layer, head) {
    if (settings[`${layer + 1}.attention`] === "off") return "off";
    return settings[`${layer + 1}.${head + 1}`] ?? "learned";
  }

  // The same in a word or two.
  const WORDS = { learned: "", average: "plain average", silent: "silent", off: "layer off" };
  const inWords = (setting) => WORDS[setting] ?? setting.replace("x", "×");

  // One of several `choices`, pairs of a value and its title: `choose(value)` hears of the one that is chosen.
  function choice(name, title, choices, choose) {
    const inputs = choices.map(([value]) =>
      el("input", { type: "radio", name, value, onchange: () => choose(value) }),
    );
    const labels = choices.map(([, text], k) => el("label", {}, inputs[k], el("span", { text })));
    return {
      node: el("div", { class: "choice", role: "radiogroup", "aria-label": title }, ...labels),
      set(value, disabled = false) {
        for (const input of inputs) {
          input.checked = input.value === value;
          input.disabled = disabled;
        }
      },
    };
  }

  return { STEPS, shade, tint, signed, keyOf, nameOf, settingOf, inWords, choice };
})();
