"""How a browser is sent the guesses of a model: some fifty printable characters for each one of a text.
`guesses.js` reads them.

A guess is what the model believed before temperature, top-k and top-p, from which the browser computes all
the rest. The likeliest characters come one by one, those that are left together: what their probabilities
sum to at four temperatures is enough to know it at all others. In digits of base 94, a guess is

    1      how many characters come one by one
    1      which of them is the one that stands in the text
    3 + 2  the number that chose it, and what the probabilities of the characters before it summed to
    (1 or 2, as the vocabulary needs, + 2) for each: its id and its -log p
    2 * 4  of the others, if there are any: 7 - log Σ p^β, for each of `BETAS`
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from charlm.engine.sampling import Step

DIGITS = [chr(code) for code in range(33, 127)]
BASE = len(DIGITS)
PAIRS = [a + b for a in DIGITS for b in DIGITS]
STEPS_A_NAT = 400
"""How finely log probabilities are told: to a quarter of a percent, down to e^-22."""
LARGEST_LOG = 7
"""Above the logarithm of the largest vocabulary."""
LISTED = 14
"""How many characters come one by one, and the one that stands in the text in any case."""
BETAS = 2, 1, 2 / 3, 1 / 2
"""1 / temperature."""


def encode(steps: Sequence[Step]) -> str:
    """The guesses of characters that one model has written."""
    if not steps:
        return ""
    ids = np.array([step.id for step in steps])
    reached = [float(step.probs[: step.id].sum()) for step in steps]
    return encode_guesses(np.stack([step.logits for step in steps]), ids, [s.uniform for s in steps], reached)


def encode_guesses(
    logits: np.ndarray, ids: np.ndarray, uniform: Sequence[float], reached: Sequence[float]
) -> str:
    """Logits (n, vocab_size), the ids (n,) that stand in the text, the numbers that chose them and what the
    probabilities of the characters before them summed to."""
    scaled = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    log_probs = scaled - np.log(np.exp(scaled).sum(-1, keepdims=True))
    order, counts, places = _listed(log_probs, ids)
    ranked = np.take_along_axis(log_probs, order, -1)
    is_left = np.arange(ranked.shape[1]) >= counts[:, None]
    with np.errstate(divide="ignore"):
        left = [np.log(np.where(is_left, np.exp(beta * ranked), 0).sum(-1)) for beta in BETAS]
    levels, left_levels = _levels(-ranked), _levels(LARGEST_LOG - np.stack(left, -1))
    name = DIGITS if logits.shape[1] <= BASE else PAIRS
    told = []
    for i, count in enumerate(counts.tolist()):
        high, low = divmod(int(uniform[i] * BASE**3), BASE)
        told += [DIGITS[count], DIGITS[places[i]], PAIRS[high], DIGITS[low]]
        told.append(PAIRS[min(int(reached[i] * BASE**2), BASE**2 - 1)])
        for char, level in zip(order[i, :count].tolist(), levels[i][:count], strict=True):
            told += [name[char], PAIRS[level]]
        if count < logits.shape[1]:
            told += [PAIRS[level] for level in left_levels[i]]
    return "".join(told)


def _listed(log_probs: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All ids (n, vocab_size), first those that come one by one; how many these are (n,), and which of them
    stand in the text (n,)."""
    order = np.argsort(-log_probs, axis=-1, kind="stable")
    counts = np.full(len(ids), min(LISTED, order.shape[1]))
    places = (order == ids[:, None]).argmax(-1)
    for i in np.flatnonzero(places >= counts):
        order[i, [counts[i], places[i]]] = order[i, [places[i], counts[i]]]
        places[i] = counts[i]
        counts[i] += 1
    return order, counts, places


def _levels(x: np.ndarray) -> list[list[int]]:
    """Numbers from 0 to 22 as indices of `PAIRS`."""
    return np.clip(np.round(x * STEPS_A_NAT), 0, BASE**2 - 1).astype(int).tolist()
