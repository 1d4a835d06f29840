// Edits as the server reads them, “5.4:silent 6.mlp:off”, and what a view wants changed of them.
window.charlm.surgery = (() => {
  let wanted = {};
  let learned = {};
  let seed = 0;
  const owners = new Map(); // Of the edits in each box, the model.

  // By part, what becomes of it.
  const parse = (text) => new Map(text.split(" ").flatMap((edit) => (edit ? [edit.split(":")] : [])));

  // How a part was learned: a head is “learned”, all others are “on”.
  const neutral = (part) => (/^\d+\.\d+$/.test(part) ? "learned" : "on");

  // `text` with other settings, by part. One that a part has by itself takes an edit back: as it was learned, or
  // as `made` says of a model that was changed before.
  function change(text, settings, made = {}) {
    const edits = parse(text);
    for (const [part, setting] of Object.entries(settings)) {
      edits.delete(part);
      if (setting !== (made[part] ?? neutral(part))) edits.set(part, setting);
    }
    return [...edits].map((edit) => edit.join(":")).join(" ");
  }

  // What the server calls the model that is called `model` once it has `edits`, too.
  function named(model, edits) {
    const [base, before = ""] = model.split("/");
    const all = `${before} ${edits}`.trim();
    return all ? `${base}/${all}` : base;
  }

  // What is left of the edits in a box if `model` is chosen. Gradio may tell twice of one choice.
  const keptFor = (box, model, text) => (owners.get(box) === model ? text : "");

  return {
    parse,
    keptFor,
    belong: (box, model) => {
      owners.set(box, model);
    },
    named,
    change,
    neutral,
    // A view says what it wants, and then triggers "select".
    want: (settings, made = {}) => {
      [wanted, learned] = [settings, made];
    },
    wanted: (text) => change(text, wanted, learned),
    // With which seed another tab is to write, before "apply" is triggered.
    goOn: (wantedSeed) => {
      seed = wantedSeed;
    },
    seed: () => `${seed}`,
  };
})();
