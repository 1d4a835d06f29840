// The losses of several runs on one chart: against steps, characters or seconds, on plain or logarithmic axes. A
// rectangle that is drawn with the mouse is enlarged. What is enlarged stays so while a run goes on.
window.charlm.runChart = (() => {
  const {
    svg,
    walk,
    badges: { colour },
    axes: { short, scaleOf },
  } = window.charlm;
  const HEIGHT = 340;
  const MARGIN = { left: 48, right: 34, top: 26, bottom: 42 };
  const DEEPEST = 10_000; // How many times as wide as the picture the whole chart may become.
  const KINDS = {
    val: { name: "validation loss", points: (run) => run.points.map(([step, s, , val]) => [step, s, val]) },
    train: { name: "training loss", points: (run) => run.points.map(([step, s, train]) => [step, s, train]) },
    batch: { name: "loss of the batch", points: (run) => run.batches },
  };
  const AXES = {
    steps: { name: "step", of: (_, step) => step },
    chars: { name: "characters seen", of: (run, step) => step * run.chars_per_step },
    seconds: { name: "seconds", of: (_run, _step, seconds) => seconds },
  };

  // Every curve that is to be drawn, as places on the axes. Zero has no place on a logarithmic one.
  function curvesOf({ runs, kinds, axis, logX }) {
    return runs.flatMap((run) =>
      Object.entries(KINDS)
        .filter(([kind]) => kinds.includes(kind))
        .map(([kind, { points }]) => ({
          run,
          kind,
          points: points(run)
            .map(([step, seconds, loss]) => ({ step, seconds, loss, x: AXES[axis].of(run, step, seconds) }))
            .filter(({ x, loss }) => Number.isFinite(loss) && (!logX || x > 0)),
        })),
    );
  }

  // What everything needs to be in sight. A loss that shot up is cut off above what a guess costs.
  function extent(curves, lines, { logX, logY }) {
    const all = curves.flatMap(({ points }) => points);
    const xs = all.map(({ x }) => x);
    const ceiling = 1.25 * Math.max(...lines.map(({ loss }) => loss), 4.2);
    const losses = [...all.map(({ loss }) => Math.min(loss, ceiling)), ...lines.map(({ loss }) => loss)];
    const [least, most] = [Math.min(...losses), Math.max(...losses)];
    const room = 0.05 * (most - least || 1);
    return {
      x: [logX ? Math.min(...xs, 1) : 0, Math.max(...xs, 1)],
      y: logY ? [Math.max(0.01, 0.95 * least), 1.05 * most] : [Math.max(0, least - room), most + room],
    };
  }

  function drawAxes(x, y, { width, name }) {
    const right = width - MARGIN.right;
    const foot = HEIGHT - MARGIN.bottom;
    const horizontal = y
      .ticks(5)
      .flatMap((loss) => [
        svg("line", { class: "gridline", x1: MARGIN.left, x2: right, y1: y.place(loss), y2: y.place(loss) }),
        svg(
          "text",
          { x: MARGIN.left - 6, y: y.place(loss) + 4, "text-anchor": "end" },
          `${+loss.toPrecision(3)}`,
        ),
      ]);
    const vertical = x
      .ticks(width / 110)
      .flatMap((at) => [
        svg("line", { class: "gridline", x1: x.place(at), x2: x.place(at), y1: MARGIN.top, y2: foot }),
        svg("text", { x: x.place(at), y: foot + 16, "text-anchor": "middle" }, short(at)),
      ]);
    return [
      ...horizontal,
      ...vertical,
      svg("text", { x: (MARGIN.left + right) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, name),
      svg("text", { x: 2, y: 12 }, "loss, nats per character"),
    ];
  }

  // Losses to compare with: dotted lines, and the name of each at its "start", under which curves come late, or
  // above its "middle" or its "end".
  function drawLines(lines, y, width) {
    const [left, right] = [MARGIN.left, width - MARGIN.right];
    const places = { start: left + 4, middle: (left + right) / 2, end: right - 4 };
    const dotted = lines.map(({ loss }) => {
      const at = y.place(loss);
      return svg("line", { class: "baseline", x1: left, x2: right, y1: at, y2: at });
    });
    const names = lines.map(({ name, loss, at }) => {
      const over = y.place(loss) + (at === "start" ? 14 : -5);
      const label = { class: "halo", x: places[at], y: over, "text-anchor": at };
      return svg("text", label, `${name} ${loss.toFixed(2)}`);
    });
    return [...dotted, ...names];
  }

  function drawCurve({ run, kind, points }, x, y) {
    if (!points.length) return [];
    const places = points.map(({ x: at, loss }) => `${x.place(at).toFixed(1)},${y.place(loss).toFixed(1)}`);
    return [svg("polyline", { class: `curve ${kind} ${colour(run.number)}`, points: places.join(" ") })];
  }

  // At the end of a curve, the number of its run; or a cross, if it diverged.
  function ending({ run, points }, x, y) {
    const last = points.at(-1);
    if (!last) return [];
    const at = { x: x.place(last.x), y: Math.max(MARGIN.top, y.place(last.loss)) };
    const tint = colour(run.number);
    const number = svg("text", { class: `end halo ${tint}`, x: at.x + 7, y: at.y + 4 }, `${run.number}`);
    if (run.state !== "diverged") return [number];
    const cross = `M ${at.x - 6} ${at.y - 6} l 12 12 m 0 -12 l -12 12`;
    const told = svg("text", { class: "halo", x: at.x + 7, y: at.y + 18 }, "diverged");
    return [svg("path", { class: `diverged ${tint}`, d: cross }), number, told];
  }

  // The frame of a picture: its axes, the lines to compare with, and within it the curves.
  function framed(curves, { width, axis, lines }, x, y) {
    const [right, foot] = [width - MARGIN.right, HEIGHT - MARGIN.bottom];
    const sizes = { width: Math.max(0, right - MARGIN.left), height: foot - MARGIN.top };
    const clip = svg("clipPath", { id: "run-chart-clip" });
    clip.append(svg("rect", { x: MARGIN.left, y: MARGIN.top, ...sizes }));
    const drawn = svg("g", { "clip-path": "url(#run-chart-clip)" });
    drawn.append(...curves.flatMap((curve) => drawCurve(curve, x, y)));
    const seen = lines.filter(({ loss }) => loss >= y.low && loss <= y.high);
    return [clip, ...drawAxes(x, y, { width, name: AXES[axis].name }), ...drawLines(seen, y, width), drawn];
  }

  // `options`: runs, kinds ("val", "train", "batch"), axis, logX, logY, lines to compare with, width, and what is
  // `zoomed`, {x, y} or null. `tell(curve, point)` says what a point is, `point(key)` hears of the one that is
  // pointed at, `zoom` of the ranges that are wanted, null for all, and `rest` of the end of a drag. Returns the
  // picture; `mark(key)`, which marks a point and returns it; `closer(factor)`, which zooms around it, or the last
  // one, within the whole chart; and whether one is `dragging`.
  return function runChart(options, { tell, point, zoom, rest }) {
    const { width, lines, logX, logY } = options;
    const curves = curvesOf(options);
    const whole = extent(curves, lines, options);
    const range = options.zoomed ?? whole;
    const x = scaleOf(range.x, [MARGIN.left, width - MARGIN.right], logX);
    const y = scaleOf(range.y, [HEIGHT - MARGIN.bottom, MARGIN.top], logY);
    const within = ({ x: at, loss }) => at >= x.low && at <= x.high && loss >= y.low && loss <= y.high;
    const points = curves
      .filter(({ kind }) => kind !== "batch")
      .flatMap((curve) => curve.points.filter(within).map((p) => ({ curve, p })))
      .map(({ curve, p }) => ({
        key: `${curve.run.id} ${curve.kind} ${p.step}`,
        told: tell(curve, p),
        circle: svg("circle", {
          class: `point ${curve.kind} ${colour(curve.run.number)}`,
          role: "option",
          "aria-label": tell(curve, p),
          cx: x.place(p.x),
          cy: y.place(p.loss),
          r: 3.5,
        }),
      }));
    const circles = points.map(({ circle }) => circle);
    const name = { role: "listbox", "aria-label": "The losses of the runs, a point each" };
    const picture = svg("svg", { class: "run-chart", width, height: HEIGHT, ...name });
    const box = svg("rect", { class: "zoom", visibility: "hidden" });
    const ends = curves.filter(({ kind }) => kind === "val").flatMap((curve) => ending(curve, x, y));
    picture.append(...framed(curves, options, x, y), ...ends, ...circles, box);
    let marked = null;
    function mark(key) {
      marked?.circle.classList.remove("marked");
      marked = points.find((p) => p.key === key) ?? null;
      marked?.circle.classList.add("marked");
      return marked;
    }
    const walked = walk(picture, ".point", (_, i) => point(points[i].key));
    const listening = listen(picture, {
      circles,
      box,
      rest,
      point: (i) => point(points[i].key),
      zoomTo: ([x1, x2], [y1, y2]) => {
        const sorted = (a, b) => [Math.min(a, b), Math.max(a, b)];
        zoom({ x: sorted(x.number(x1), x.number(x2)), y: sorted(y.number(y1), y.number(y2)) });
      },
    });
    picture.addEventListener("dblclick", () => zoom(null));
    const middle = { cx: width / 2, cy: HEIGHT / 2 };
    function closer(factor) {
      if (factor < 1 && x.place(whole.x[1]) - x.place(whole.x[0]) > DEEPEST * width) return;
      const circle = (marked ?? points.at(-1))?.circle;
      const ranges = {};
      for (const [axis, scale, name] of [
        ["x", x, "cx"],
        ["y", y, "cy"],
      ]) {
        const [low, high] = scale.around(Number(circle?.getAttribute(name) ?? middle[name]), factor);
        ranges[axis] = [Math.max(low, whole[axis][0]), Math.min(high, whole[axis][1])];
      }
      const isWhole = ["x", "y"].every((axis) => `${ranges[axis]}` === `${whole[axis]}`);
      zoom(isWhole ? null : ranges);
    }
    return {
      picture,
      closer,
      dragging: listening.dragging,
      mark(key) {
        const found = mark(key);
        if (found) walked.begin(points.indexOf(found));
        return found;
      },
    };
  };

  // Which circle is nearest to a place, or −1.
  function nearest(circles, [px, py]) {
    let [found, least] = [-1, 40];
    for (const [i, circle] of circles.entries()) {
      const distance = Math.hypot(circle.getAttribute("cx") - px, circle.getAttribute("cy") - py);
      if (distance < least) [found, least] = [i, distance];
    }
    return found;
  }

  // The pointer points at the nearest point, or draws a rectangle to be enlarged.
  function listen(picture, { circles, box, point, zoomTo, rest }) {
    let start = null;
    const inside = (value, low, high) => Math.max(low, Math.min(high, value));
    function placeOf(event) {
      const at = picture.getBoundingClientRect();
      return [
        inside(event.clientX - at.left, MARGIN.left, at.width - MARGIN.right),
        inside(event.clientY - at.top, MARGIN.top, HEIGHT - MARGIN.bottom),
      ];
    }
    picture.addEventListener("pointerdown", (event) => {
      if (event.pointerType === "touch" || event.button) return;
      start = placeOf(event);
      picture.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    picture.addEventListener("pointermove", (event) => {
      const [px, py] = placeOf(event);
      if (!start) {
        const i = nearest(circles, [px, py]);
        if (i >= 0) point(i);
        return;
      }
      const [x0, y0] = start;
      const sizes = { width: Math.abs(px - x0), height: Math.abs(py - y0) };
      const attributes = { x: Math.min(px, x0), y: Math.min(py, y0), ...sizes, visibility: "visible" };
      for (const [name, value] of Object.entries(attributes)) box.setAttribute(name, value);
    });
    picture.addEventListener("pointerup", (event) => {
      if (!start) return;
      const [[x0, y0], [px, py]] = [start, placeOf(event)];
      start = null;
      box.setAttribute("visibility", "hidden");
      if (Math.abs(px - x0) > 8 && Math.abs(py - y0) > 8) zoomTo([x0, px], [y0, py]);
      else rest();
    });
    return { dragging: () => start !== null };
  }
})();
