// The board of switches: a row for each layer, with its attention, each of its heads, and its MLP.
// `want(settings)` hears what is to become of which parts.
window.charlm.switches = (want) => {
  const { el, many, walk, surgery } = window.charlm;
  const SETTINGS = ["learned", "average", "silent", "x0.5", "x2", "x3"];
  const titleOf = (setting) => setting.replace(/^x/, "×");
  let shape = "";

  const table = el("table");
  const node = el(
    "div",
    { class: "switches" },
    table,
    el("p", {
      class: "hint",
      text: "Arrow keys lead from switch to switch, the space bar opens or turns one.",
    }),
  );

  function headSelect(layer, head) {
    const part = `${layer}.${head}`;
    const select = el("select", { "data-part": part, "aria-label": `Head ${layer}·${head}` });
    for (const setting of SETTINGS) select.append(el("option", { value: setting, text: titleOf(setting) }));
    select.addEventListener("change", () => want({ [part]: select.value }));
    // An open one needs the arrow keys itself.
    select.addEventListener("keydown", (event) => {
      if (CSS.supports("selector(:open)") && select.matches(":open")) event.stopPropagation();
    });
    return el("td", {}, select);
  }

  function partSwitch(layer, kind, name) {
    const part = `${layer}.${kind}`;
    const button = el("button", {
      type: "button",
      class: kind,
      role: "switch",
      "data-part": part,
      "aria-label": `${name} of layer ${layer}`,
    });
    button.addEventListener("click", () => {
      want({ [part]: button.getAttribute("aria-checked") === "true" ? "off" : "on" });
    });
    return el("td", {}, button);
  }

  function lay({ n_layer, n_head, mlp }) {
    const heads = Array.from({ length: n_head }, (_, i) => i + 1);
    const column = (text, kind) => el("th", { scope: "col", class: kind, text });
    const columns = [
      column("Atten\u00adtion", "attention"),
      ...heads.map((head) => column(`Head ${head}`, "head")),
      ...(mlp ? [column("MLP", "mlp")] : []),
    ];
    const row = (layer) =>
      el(
        "tr",
        {},
        el("th", { scope: "row" }, el("span", { text: "Layer " }), `${layer}`),
        partSwitch(layer, "attention", "Attention"),
        ...heads.map((head) => headSelect(layer, head)),
        ...(mlp ? [partSwitch(layer, "mlp", "MLP")] : []),
      );
    table.style.setProperty("--columns", columns.length);
    table.replaceChildren(
      el("caption", { class: "hint", text: "What becomes of each part" }),
      el("thead", {}, el("tr", {}, el("td"), ...columns)),
      el("tbody", {}, ...Array.from({ length: n_layer }, (_, i) => row(i + 1))),
    );
    walked.begin(0);
  }

  // Shows what has become of the parts: `settings`, by part.
  function show(sizes, settings) {
    const wanted = JSON.stringify([sizes.n_layer, sizes.n_head, sizes.mlp]);
    if (wanted !== shape) lay(sizes);
    shape = wanted;
    for (const control of table.querySelectorAll("[data-part]")) {
      const { part } = control.dataset;
      const setting = settings[part] ?? surgery.neutral(part);
      if (control.matches("select")) setHead(control, setting, settings[`${part.split(".")[0]}.attention`]);
      else turn(control, setting, neuronsOff(settings, part));
    }
  }

  function setHead(select, setting, attention) {
    if (![...select.options].some(({ value }) => value === setting))
      select.append(el("option", { value: setting, text: titleOf(setting) }));
    select.value = setting;
    select.classList.toggle("changed", setting !== "learned");
    select.classList.toggle("idle", attention === "off");
  }

  function turn(button, setting, off) {
    button.setAttribute("aria-checked", `${setting === "on"}`);
    button.classList.toggle("changed", setting !== "on" || off > 0);
    button.textContent = setting === "on" && off ? `on −${off}` : setting;
    button.title = off ? `${many(off, "neuron")} off` : "";
  }

  const neuronsOff = (settings, mlp) =>
    Object.keys(settings).filter((part) => part.startsWith(`${mlp}.`)).length;

  const walked = walk(table, "[data-part]", () => {});
  return { node, show };
};
