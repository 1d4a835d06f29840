// Asks the server for what a view shows, once the view is in sight: one question at a time, the latest winning.
window.charlm.asker = (root, ask, tell) => {
  let waiting = null;
  let busy = false;
  let seen = false;

  async function go() {
    if (busy || !seen || !waiting) return;
    const asked = waiting;
    [waiting, busy] = [null, true];
    root.setAttribute("aria-busy", "true");
    try {
      const answer = await ask(asked);
      if (!waiting) tell(answer, asked);
    } finally {
      busy = false;
      root.removeAttribute("aria-busy");
      go();
    }
  }

  new IntersectionObserver(
    (entries) => {
      seen = entries.at(-1).isIntersecting;
      go();
    },
    { rootMargin: "200px" },
  ).observe(root);
  return (asked) => {
    waiting = asked;
    go();
  };
};
