// What the list of runs and the question before a run say to the page: what is wanted of which run, and which one
// is expected to end lower.
window.charlm.runs = (() => {
  const { el } = window.charlm;
  let wanted = "";
  let guessed = "";

  function download(name, blob) {
    const link = el("a", { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  return {
    download,
    // A view says of which run it wants something, and then triggers what it wants.
    want: (id) => {
      wanted = id;
    },
    wanted: () => wanted,
    guess: (id) => {
      guessed = id;
    },
    guessed: () => guessed,
    // On a phone, where a run is shown below its controls.
    follow: () => {
      if (innerWidth <= 760) document.querySelector("#train-progress").scrollIntoView();
    },
    save: (file) => {
      if (file) download(file.name, new Blob([file.text], { type: "text/plain" }));
    },
  };
})();
