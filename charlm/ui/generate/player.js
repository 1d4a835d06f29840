// Plays texts in step, as long as `element` is on the screen: `texts()` are their panes, `pace()` says how many
// characters a second, and `moved(sought)` hears when something may have changed on the screen: because another
// place was sought, or for another reason.
window.charlm.player = ({ element, texts, pace, moved }) => {
  const { neighbour } = window.charlm;
  let place = 0; // How many characters are played, of every text.
  let playing = false;
  let last = 0;
  let due = false; // Whether the next frame is waited for.

  const length = () => Math.max(0, ...texts().map(({ version }) => version.chars.length));
  const isOver = () => texts().every(({ version, error }) => version.over || error);

  function set(wanted) {
    playing = wanted;
    last = performance.now();
    if (playing) go();
    moved(false);
  }

  function go() {
    if (!due) requestAnimationFrame(advance);
    due = true;
  }

  // Plays as many characters as have become due.
  function advance(now) {
    due = false;
    if (!playing) return;
    // While another tab is open, it waits.
    if (!element.checkVisibility()) {
      last = now;
      go();
      return;
    }
    const rate = pace();
    const passed = Number.isFinite(rate) ? Math.floor(((now - last) * rate) / 1000) : length();
    if (passed > 0) {
      last = Number.isFinite(rate) ? last + (1000 * passed) / rate : now;
      seek(place + passed);
    } else moved(false);
    if (place >= length()) {
      last = now;
      if (isOver()) set(false);
    } else go();
  }

  function seek(n) {
    place = Math.max(0, Math.min(n, length()));
    for (const text of texts()) text.play(place);
    moved(true);
  }

  function step(by) {
    set(false);
    seek(place + by);
  }

  function toggle() {
    if (!playing && place >= length() && isOver()) seek(0);
    set(!playing);
  }

  // Something has come.
  function changed() {
    if (playing) go();
    else moved(false);
  }

  // Space plays and pauses; arrow keys, Home and End lead from character to character.
  function press(event) {
    if (event.target.closest("button, input, select")) return;
    const leads = placeAfter(event.key);
    if (event.key === " ") toggle();
    else if (leads !== null) step(leads - place);
    else return;
    event.preventDefault();
  }

  // Where a key leads in the text, or null: up and down to the next line.
  function placeAfter(key) {
    const move = { ArrowLeft: place - 1, ArrowRight: place + 1, End: length() }[key];
    if (move !== undefined) return move;
    const spans = texts()[0]?.version.spans ?? [];
    const next = spans.length ? neighbour(spans, Math.max(0, place - 1), key) : -1;
    return next < 0 ? null : next + 1;
  }

  element.addEventListener("keydown", press);
  return {
    length,
    isOver,
    set,
    seek,
    step,
    toggle,
    changed,
    place: () => place,
    playing: () => playing,
  };
};
