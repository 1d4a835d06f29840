// One sentence goes with the learner from tab to tab, once it is his own: written in one of them, or one of
// its characters pinned. Until then each tab has its own example.
window.charlm.thread = (() => {
  let text = null;
  let rest = null; // How many characters stand behind the pinned one; null if none is pinned.

  // What a box shows when its tab is opened.
  const read = (own) => text ?? own;

  function write(written) {
    if (written === text) return;
    [text, rest] = [written, null];
  }

  // Pins the i-th character of what is `shown`: the text or, where a model reads no more, its end.
  function pin(shown, i) {
    if (!text?.endsWith(shown)) text = shown;
    rest = [...shown].length - 1 - i;
  }

  // How many characters stand behind the pinned one, or behind the last.
  const behind = () => rest ?? 0;

  // The place of the pinned character in what is `shown`; null if it is not there.
  function placeIn(shown) {
    const place = [...shown].length - 1 - rest;
    return rest !== null && text.endsWith(shown) && place >= 0 ? place : null;
  }

  // The pinned character itself, or `other`.
  const char = (other) => (rest === null ? other : [...text].at(-1 - rest));

  return { read, write, pin, behind, placeIn, char };
})();
