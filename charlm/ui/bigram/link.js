// What the views of the tab tell each other: the character whose row is chosen, and the cell that a step of
// the writing came from.
window.charlm.bigram = (() => {
  let char = null;
  const told = new EventTarget();
  const tell = (name, detail) => told.dispatchEvent(new CustomEvent(name, { detail }));
  return {
    chosen: () => char,
    choose(chosen) {
      char = chosen;
      tell("chosen", chosen);
    },
    point: (before, next) => tell("pointed", [before, next]),
    on: (name, hear) => told.addEventListener(name, ({ detail }) => hear(detail)),
    // e^(logit/temperature) over the sum of all, in words.
    softmax(logit, temperature, logSum) {
      const power = temperature === 1 ? logit.toFixed(3) : `(${logit.toFixed(3)} / ${temperature})`;
      const sum = Math.exp(logSum);
      return `e^${power} / ${sum < 1e6 ? sum.toFixed(2) : sum.toExponential(2)}`.replace(/-/g, "−");
    },
  };
})();
