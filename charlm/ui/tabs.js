// The address names the tab that is open: a link leads to it, a reload stays there, and Back returns to the tab
// before. The first tab has no name in it.
window.charlm.tabs = (() => {
  const FIRST = "generate";
  const buttons = () => [...document.querySelectorAll('[role="tablist"] [role="tab"][data-tab-id]')];
  const named = () => location.hash.slice(1) || FIRST;
  let beginning = true;
  const idOf = (button) => button.dataset.tabId;

  // A tab was opened, by whatever way. Gradio may tell of it when another one is open already.
  function opened(name) {
    const open = buttons().find((button) => button.getAttribute("aria-selected") === "true");
    if (!open || idOf(open) !== name) return;
    if (beginning && asked() && name !== named()) return; // The one that the page begins with.
    beginning = false;
    for (const button of buttons()) button.tabIndex = button === open ? 0 : -1;
    if (name === named()) return;
    const hash = name === FIRST ? "" : `#${name}`;
    history.pushState(null, "", location.pathname + location.search + hash);
  }

  const asked = () => buttons().find((button) => idOf(button) === named());

  // What Gradio is told at first.
  const first = () => ({ __type__: "update", ...(asked() ? { selected: named() } : {}) });

  // The tabs are one stop of the Tab key.
  function lead(event) {
    const all = buttons();
    const at = all.indexOf(event.target.closest('[role="tab"]'));
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const next = { Home: 0, End: all.length - 1 }[event.key] ?? (at + step + all.length) % all.length;
    if (at < 0 || Number.isNaN(next)) return;
    event.preventDefault();
    all[next].focus();
    all[next].click();
  }

  addEventListener("popstate", () => asked()?.click());
  document.addEventListener("keydown", lead);
  return { opened, first };
})();
