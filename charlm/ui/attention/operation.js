// What becomes of the open head: as it was learned, a plain average, silent, or of another strength.
// `change(setting)` hears of what is chosen, as an edit says it.
window.charlm.headOperation = (change) => {
  const { el, attending } = window.charlm;
  const MOST = 3;
  const modes = attending.choice(
    "attention-operation",
    "What becomes of this head",
    [
      ["learned", "Learned"],
      ["average", "Plain average"],
      ["silent", "Silent"],
    ],
    change,
  );
  const strength = el("input", { type: "range", min: 0, max: MOST, step: 0.1, oninput: tell });
  let wanted = null; // What the slider was set to last.
  strength.addEventListener("change", () => {
    wanted = settingOf(+strength.value);
    change(wanted);
  });
  const told = el("output");
  const why = el("p", { class: "hint", hidden: true });
  const slider = el("label", { class: "strength" }, "Strength", strength, told);
  const node = el("div", { class: "operation" }, modes.node, slider, why);

  const settingOf = (factor) => ({ 0: "silent", 1: "learned" })[factor] ?? `x${factor}`;
  const factorOf = (setting) =>
    setting.startsWith("x") ? +setting.slice(1) : ["silent", "off"].includes(setting) ? 0 : 1;

  function tell() {
    told.textContent = `×${strength.value}`;
    strength.setAttribute("aria-valuetext", told.textContent);
  }

  function show(layer, setting) {
    node.hidden = layer < 0;
    modes.set(setting === "off" ? "silent" : setting, setting === "off");
    // The answer to an earlier press does not pull the slider back.
    if (wanted !== null && wanted !== setting && strength === document.activeElement) return;
    wanted = null;
    strength.value = factorOf(setting);
    strength.disabled = ["average", "off"].includes(setting);
    why.hidden = setting !== "off";
    why.textContent = `All heads of layer ${layer + 1} are switched off.`;
    tell();
  }

  return { node, show };
};
