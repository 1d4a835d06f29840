// Which rung of the ladder is chosen, for what its buttons do.
window.charlm.ladder = (() => {
  let name = null;
  return {
    choose: (chosen) => {
      name = chosen;
    },
    chosen: () => name,
  };
})();
