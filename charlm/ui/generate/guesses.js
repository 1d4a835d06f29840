// What a model guessed at each place of a text, as `wire.py` sends it, and what temperature, top-k and top-p
// make of a guess.
window.charlm.guesses = (() => {
  const BASE = 94;
  const FIRST_DIGIT = 33;
  const STEPS_A_NAT = 400;
  const LARGEST_LOG = 7;
  const BETAS = [2, 1, 2 / 3, 1 / 2];

  // The guesses in a piece of the stream. Each has its `candidates`, the likeliest first: { char, id, log }, log
  // being the logarithm of what the model believes; `left`, how many others there are, and `leftLogs`; and what
  // stands in the text: the candidate at `place`, chosen by the number `uniform`, `reached` coming before it.
  function decode(text, vocab) {
    const width = vocab.length <= BASE ? 1 : 2;
    const found = [];
    let at = 0;
    function number(digits) {
      let value = 0;
      for (let i = 0; i < digits; i++) value = value * BASE + text.charCodeAt(at++) - FIRST_DIGIT;
      return value;
    }
    function candidate() {
      const id = number(width);
      return { id, char: vocab[id], log: -number(2) / STEPS_A_NAT };
    }
    while (at < text.length) {
      const count = number(1);
      const guess = { place: number(1), uniform: number(3) / BASE ** 3, reached: number(2) / BASE ** 2 };
      guess.candidates = Array.from({ length: count }, candidate);
      guess.left = vocab.length - count;
      guess.leftLogs = guess.left ? BETAS.map(() => LARGEST_LOG - number(2) / STEPS_A_NAT) : [];
      found.push(guess);
    }
    return found;
  }

  // log Σ p^beta of the characters that are left: exact at BETAS, a cubic between them, a line beyond.
  function leftLog(logs, beta) {
    if (beta > BETAS[0]) return logs[0] + ((logs[0] - logs[1]) / (BETAS[0] - BETAS[1])) * (beta - BETAS[0]);
    const term = (log, i) =>
      BETAS.reduce((product, b, j) => (j === i ? product : (product * (beta - b)) / (BETAS[i] - b)), log);
    return logs.map(term).reduce((sum, x) => sum + x, 0);
  }

  // Which part of the others together the likeliest `kept` of them have. Their logarithms are taken to fall in
  // a straight line, as steep as the sums at temperatures 1 and 2 tell.
  function leftPart(logs, left, kept, beta) {
    if (kept >= left) return 1;
    const sum = (slope, n) => (slope < 1e-9 ? n : (1 - Math.exp(-slope * n)) / (1 - Math.exp(-slope)));
    const spread = logs[3] - logs[1] / 2; // of the line: log S(1/2) - log S(1) / 2, whatever its height
    let [low, high] = [0, 5];
    for (let i = 0; i < 40; i++) {
      const slope = (low + high) / 2;
      const told = Math.log(sum(slope / 2, left)) - Math.log(sum(slope, left)) / 2;
      if (told > spread) low = slope;
      else high = slope;
    }
    return sum(beta * low, Math.max(0, kept)) / sum(beta * low, left);
  }

  // What is drawn from: the share of each candidate, 0 for what is cut, and that of the others together.
  // Temperature first, then top-k, then top-p on what is left, as in `next_char_probs`.
  function drawnFrom({ candidates, left, leftLogs }, { temperature, topK, topP }) {
    const beta = 1 / Math.max(temperature, 1e-300);
    const largest = beta * candidates[0].log;
    let shares = candidates.map(({ log }, i) => (i === 0 ? 1 : Math.exp(beta * log - largest)));
    let rest = left && Number.isFinite(largest) ? Math.exp(leftLog(leftLogs, beta) - largest) : 0;
    if (topK > 0) {
      shares = shares.map((share, i) => (i < topK ? share : 0));
      rest *= leftPart(leftLogs, left, topK - candidates.length, beta);
    }
    [shares, rest] = normalised(shares, rest);
    if (topP < 1) {
      let before = 0;
      shares = shares.map((share) => {
        const kept = before < topP ? share : 0;
        before += share;
        return kept;
      });
      rest = Math.max(0, Math.min(rest, topP - before));
      [shares, rest] = normalised(shares, rest);
    }
    return { shares, rest };
  }

  function normalised(shares, rest) {
    const sum = shares.reduce((total, share) => total + share, rest);
    return [shares.map((share) => share / sum), rest / sum];
  }

  const BELIEF = { temperature: 1, topK: 0, topP: 1 };
  const believed = (guess) => drawnFrom(guess, BELIEF);

  // How surprised the model is by what stands in the text, in nats.
  const surprise = ({ candidates, place }) => -candidates[place].log;

  return { decode, drawnFrom, believed, surprise };
})();
