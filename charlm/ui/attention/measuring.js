// Has each head of one's own model measured, which takes a while. `begin(model)` and `look(model)` ask the server,
// and get an error, or how much is done and what is then `known`; `finish(model, known)` hears of that.
window.charlm.headMeasuring = ({ begin, look, finish }) => {
  const { el } = window.charlm;
  const PAUSE = 700; // Milliseconds from one look to the next.
  const button = el("button", { type: "button", text: "Measure each head", onclick: start });
  const bar = el("progress", { max: 1, value: 0, "aria-label": "Heads measured", hidden: true });
  const told = el("p", { role: "status" });
  const node = el(
    "div",
    { class: "measuring" },
    el("p", {
      class: "hint",
      text:
        "How much does the loss rise without a head, or with it as a plain average? And what does it mostly look " +
        "at? For your own model nobody has measured that yet.",
    }),
    button,
    bar,
    told,
  );
  let model = null; // The name of the model it is about.
  let isMeasured = false;
  let asked = 0; // A model that was chosen since is not told of another.

  async function start() {
    isMeasured = true;
    const mine = ++asked;
    const answer = await begin(model);
    if (mine === asked) follow(mine, answer);
  }

  async function follow(mine, answer) {
    isMeasured = true;
    while (!answer.error && !answer.known) {
      button.hidden = true;
      bar.hidden = false;
      bar.value = answer.done;
      told.textContent = `${Math.floor(100 * answer.done)} % of the heads are measured.`;
      await new Promise((resolve) => setTimeout(resolve, PAUSE));
      answer = await look(model);
      if (mine !== asked) return;
    }
    rest();
    if (answer.error) told.textContent = answer.error;
    else finish(model, answer.known);
  }

  function rest() {
    isMeasured = false;
    button.hidden = false;
    bar.hidden = true;
    told.textContent = "";
  }

  // For a model whose heads are not known. If they are being measured, `done` says how far. Drawn again, with
  // another text, what was begun goes on.
  function show(name, isUnknown, done) {
    if (isMeasured && isUnknown && name === model) return;
    model = name;
    const mine = ++asked;
    node.hidden = !isUnknown;
    rest();
    if (isUnknown && done !== null) follow(mine, { done });
  }

  return { node, show };
};
