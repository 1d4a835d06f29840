// Asks the server for what a view shows, the latest question alone, once the view is in sight.
window.charlm.asker = (root, ask, tell) => {
  const go = window.charlm.latest(root, ask, tell);
  let waiting = null;
  let seen = false;

  function askIfSeen() {
    if (!seen || !waiting) return;
    const question = waiting;
    waiting = null;
    go(question);
  }

  new IntersectionObserver(
    (entries) => {
      seen = entries.at(-1).isIntersecting;
      askIfSeen();
    },
    { rootMargin: "200px" },
  ).observe(root);
  return (question) => {
    waiting = question;
    askIfSeen();
  };
};
