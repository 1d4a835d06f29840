// How the runs are told apart: by a number, and a colour.
window.charlm.badges = (() => {
  const COLOURS = 8;
  const colour = (number) => `run-${number % COLOURS}`;
  const badge = (number) => window.charlm.el("span", { class: `badge ${colour(number)}`, text: `${number}` });
  return { colour, badge };
})();
