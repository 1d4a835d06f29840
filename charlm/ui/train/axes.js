// What charts have in common: the round numbers along an axis, places on it, and what needs no training.
window.charlm.axes = (() => {
  const BASELINES = { uniform: "uniform guess", bigram: "counted bigram" };

  // About so many round numbers from the least to the most.
  function ticks(least, most, about) {
    const rough = (most - least) / about || 1;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((n) => n * power >= rough);
    const first = Math.ceil(least / step - 1e-9);
    const last = Math.floor(most / step + 1e-9);
    return Array.from(
      { length: Math.max(0, last - first) + 1 },
      (_, i) => +((first + i) * step).toPrecision(12),
    );
  }

  // Powers of ten, and what lies between them if there are few.
  function logTicks(least, most, about) {
    const powers = [];
    for (let p = Math.floor(Math.log10(least)); p <= Math.log10(most); p++) powers.push(10 ** p);
    const within = (digits) =>
      powers.flatMap((power) => digits.map((n) => n * power)).filter((x) => x >= least && x <= most);
    if (within([1, 2, 5]).length < 3) return ticks(least, most, about);
    return [[1, 2, 5], [1, 3], [1]].map(within).find((found) => found.length <= 2 * about) ?? within([1]);
  }

  const short = (x) => x.toLocaleString("en", { notation: "compact", maximumSignificantDigits: 4 });

  // From numbers from `low` to `high` to places from `start` to `end`, and back.
  function scaleOf([low, high], [start, end], log) {
    const f = log ? Math.log10 : (x) => x;
    const inverse = log ? (x) => 10 ** x : (x) => x;
    const [a, b] = [f(low), f(high)];
    const number = (place) => inverse(a + ((place - start) / (end - start)) * (b - a));
    return {
      low,
      high,
      place: (x) => start + ((f(x) - a) / (b - a || 1)) * (end - start),
      number,
      // The range that is `factor` times as long, around a place.
      around: (place, factor) => [
        number(place + (start - place) * factor),
        number(place + (end - place) * factor),
      ],
      ticks: (about) => (log ? logTicks : ticks)(low, high, about),
    };
  }

  return { BASELINES, ticks, short, scaleOf };
})();
