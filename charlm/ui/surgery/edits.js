// Edits as the server reads them, “5.4:silent 6.mlp:off”, and what a view wants changed of them.
window.charlm.surgery = (() => {
  const NEUTRAL = ["learned", "on"];
  let wanted = {};

  // By part, what becomes of it.
  const parse = (text) => new Map(text.split(" ").flatMap((edit) => (edit ? [edit.split(":")] : [])));

  // `text` with other settings, by part; “learned” and “on” take an edit back.
  function change(text, settings) {
    const edits = parse(text);
    for (const [part, setting] of Object.entries(settings)) {
      edits.delete(part);
      if (!NEUTRAL.includes(setting)) edits.set(part, setting);
    }
    return [...edits].map((edit) => edit.join(":")).join(" ");
  }

  return {
    parse,
    change,
    // A view says what it wants, and then triggers "select".
    want: (settings) => {
      wanted = settings;
    },
    wanted: (text) => change(text, wanted),
  };
})();
