// The losses of a run, drawn as a picture of which every point can be pointed at.
window.charlm.lossCurve = (() => {
  const {
    svg,
    walk,
    axes: { BASELINES, ticks },
  } = window.charlm;
  const HEIGHT = 300;
  const MARGIN = { left: 44, right: 14, top: 28, bottom: 40 };

  // From a step and from a loss to a place in a picture so wide.
  function scales({ evaluations, baselines }, width) {
    const losses = [...evaluations.flatMap((e) => [e.train_loss, e.val_loss]), ...Object.values(baselines)];
    const [least, most] = [Math.min(...losses), Math.max(...losses)];
    const room = 0.06 * (most - least || 1);
    const low = Math.max(0, least - room);
    const high = most + room;
    const end = Math.max(1, evaluations.at(-1).step);
    const { left, right, top, bottom } = MARGIN;
    return {
      low,
      high,
      end,
      x: (step) => left + (step / end) * (width - left - right),
      y: (loss) => HEIGHT - bottom - ((loss - low) / (high - low)) * (HEIGHT - top - bottom),
    };
  }

  function drawAxes({ x, y, low, high, end }, width) {
    const right = width - MARGIN.right;
    const foot = HEIGHT - MARGIN.bottom;
    const horizontal = ticks(low, high, 5).flatMap((loss) => [
      svg("line", { class: "gridline", x1: MARGIN.left, x2: right, y1: y(loss), y2: y(loss) }),
      svg("text", { x: MARGIN.left - 6, y: y(loss) + 4, "text-anchor": "end" }, loss.toLocaleString("en")),
    ]);
    const vertical = ticks(0, end, width / 110).flatMap((step) => [
      svg("line", { class: "gridline", x1: x(step), x2: x(step), y1: MARGIN.top, y2: foot }),
      svg("text", { x: x(step), y: foot + 16, "text-anchor": "middle" }, step.toLocaleString("en")),
    ]);
    const names = [
      svg("text", { x: (MARGIN.left + right) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, "step"),
      svg("text", { x: 2, y: 12 }, "loss, nats per character"),
    ];
    return [...horizontal, ...vertical, ...names];
  }

  // The name of each stands at the right, where the curves are not.
  function baselines({ baselines: losses, evaluations }, { y }, width) {
    const right = width - MARGIN.right;
    return Object.entries(losses).flatMap(([name, loss]) => {
      const crowded = Math.abs(y(loss) - y(losses.uniform)) < 18 || evaluations.at(-1).val_loss > loss;
      const below = name === "bigram" && crowded;
      return [
        svg("line", { class: "baseline", x1: MARGIN.left, x2: right, y1: y(loss), y2: y(loss) }),
        svg(
          "text",
          { class: "halo", x: right, y: y(loss) + (below ? 16 : -6), "text-anchor": "end" },
          `${BASELINES[name]} ${loss.toFixed(2)}`,
        ),
      ];
    });
  }

  function curve(kind, evaluations, { x, y }) {
    const places = evaluations.map((e) => [x(e.step), y(e[`${kind}_loss`])]);
    return [
      svg("polyline", { class: `curve ${kind}`, points: places.map((place) => place.join()).join(" ") }),
      ...places.map(([cx, cy]) => svg("circle", { class: `point ${kind}`, cx, cy, r: 3 })),
    ];
  }

  // Where the validation loss falls below that of the counted bigram. Its step stands where no curve is.
  function crossing(step, loss, { x, y }, width) {
    if (step === null) return [];
    const [cx, cy] = [x(step), y(loss)];
    const before = cx > 0.6 * width;
    const place = {
      x: cx + (before ? -8 : 8),
      y: cy + (before ? 18 : -9),
      "text-anchor": before ? "end" : "start",
    };
    return [
      svg("path", { class: "crossing", d: `M ${cx} ${cy - 7} l 7 7 l -7 7 l -7 -7 z` }),
      svg("text", { class: "halo", ...place }, `step ${Math.round(step).toLocaleString("en")}`),
    ];
  }

  // What is pointed at: the strip around each evaluation, from top to bottom.
  function columns(evaluations, { x }, width, tell) {
    const places = evaluations.map((e) => x(e.step));
    const edges = [0, ...places.slice(1).map((place, i) => (place + places[i]) / 2), width];
    return evaluations.map((_, i) =>
      svg("rect", {
        class: "column",
        role: "option",
        "aria-label": tell(i),
        x: edges[i],
        y: 0,
        width: Math.max(0, edges[i + 1] - edges[i]),
        height: HEIGHT,
      }),
    );
  }

  // `tell(i)` says of an evaluation what it found, `choose(i)` hears of the one that is pointed at. Returns the
  // picture, and `mark(i)`, which marks one.
  return function lossCurve(run, width, tell, choose) {
    const scale = scales(run, width);
    const name = { role: "listbox", "aria-label": "The losses at each evaluation" };
    const picture = svg("svg", { class: "losses", width, height: HEIGHT, ...name });
    const cursor = svg("line", { class: "cursor", y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom });
    const rects = columns(run.evaluations, scale, width, tell);
    picture.append(
      ...drawAxes(scale, width),
      ...baselines(run, scale, width),
      cursor,
      ...["train", "val"].flatMap((kind) => curve(kind, run.evaluations, scale)),
      ...crossing(run.crossing, run.baselines.bigram, scale, width),
      ...rects,
    );
    const walked = walk(picture, ".column", (_, i) => choose(i));
    function mark(i) {
      const x = scale.x(run.evaluations[i].step);
      cursor.setAttribute("x1", x);
      cursor.setAttribute("x2", x);
      for (const [j, rect] of rects.entries()) rect.setAttribute("aria-selected", i === j);
      walked.begin(i);
    }
    return { picture, mark };
  };
})();
