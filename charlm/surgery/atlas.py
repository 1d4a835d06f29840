"""What heads look at, as numbers: each detector has a pattern of places, and a score that says how much of a
head's weight lies there.

A pattern names targets for some of the characters of a text. The score of a head is the weight that it puts
on a character's targets together, on average over the characters that have any. Chance is the score of a head
that spreads evenly over all that it can see. A score alone says little: a pattern with many targets is met
by chance.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from charlm.models import LanguageModel
from charlm.models.trace import trace
from charlm.surgery.edits import attentive

BACK = "back "
MOST_BACK = 8
"""How far back at most the detector “back” looks."""
CLEAR = 0.25
"""How far from chance (0) to all of the weight (1) a head has to be to be said to look at a pattern."""
EVEN = 0.85
"""The score from which on a head is said to spread evenly."""


@dataclass(frozen=True)
class Atlas:
    """How far each head follows each pattern. A detector of which a text has no target is left out.

    - `previous`: the character before.
    - `back`: the one n characters back, for the n from 2 to `MOST_BACK` with the best score.
    - `line_start`: the first character of the line, if the text has the line break before it.
    - `separator`: the last space or line break.
    - `same`: all earlier characters that are the same.
    - `induction`: all characters that followed an earlier one that is the same (Olsson et al., 2022,
      "In-context Learning and Induction Heads").
    - `even`: no pattern, but the entropy of the weights as a share of the most there can be, on average over
      all characters but the first; its chance is 1.

    The four that depend on what the text says count only targets at least two characters back, so that a head
    that looks at the character before is not taken for one that reads.
    """

    chance: dict[str, float]
    """The score of a head that spreads evenly."""
    scores: dict[str, list[list[float]]]
    """By detector, layer and head, from 0 to 1."""
    back: list[list[int]]
    """The n of the detector `back`, by layer and head; empty if the text is too short for it."""

    def found(self, layer: int, head: int) -> list[tuple[str, float]]:
        """The detectors that a head, numbered as the rows and columns here, clearly follows, each with its
        score, the highest first."""
        scores = {name: rows[layer][head] for name, rows in self.scores.items()}
        clear = [(name, score) for name, score in scores.items() if self._is_clear(name, score)]
        return sorted(clear, key=lambda pair: -pair[1])

    def _is_clear(self, name: str, score: float) -> bool:
        if name == "even":
            return score >= EVEN
        chance = self.chance[name]
        return score - chance >= CLEAR * (1 - chance) and chance < 1


def patterns(chars: str) -> dict[str, Tensor]:
    """The targets (T, T) of each detector but `even` in a text: a row for each character, true in the columns
    of its targets. `back` stands there once for each n, as “back 2”, “back 3”, …"""
    T = len(chars)
    every = torch.ones(T, T, dtype=torch.bool)
    ids = torch.tensor([ord(char) for char in chars])
    same = ids[:, None] == ids
    line_start, separator = torch.zeros_like(every), torch.zeros_like(every)
    start = last = -1
    for t, char in enumerate(chars):
        if start >= 0:
            line_start[t, start] = True
        if last >= 0:
            separator[t, last] = True
        if char in " \n":
            last = t
        if char == "\n":
            start = t + 1
    # One column to the right: what followed a character that is the same.
    followed = same.roll(1, dims=1)
    followed[:, 0] = False
    reads = {"line_start": line_start, "separator": separator, "same": same, "induction": followed}
    backs = {f"{BACK}{n}": every.tril(-n).triu(-n) for n in range(2, MOST_BACK + 1)}
    found = {"previous": every.tril(-1).triu(-1), **backs} | {k: v.tril(-2) for k, v in reads.items()}
    return {name: targets for name, targets in found.items() if targets.any()}


@torch.no_grad()
def survey(model: LanguageModel, idx: Tensor) -> Atlas:
    """What each head of `model` looks at in the texts idx (B, T).

    Raises `CharlmError` for a model without heads, or if T exceeds block_size.
    """
    model = attentive(model)
    pairs = (
        (trace(model, row[None].to(model.device)).weights[:, 0].cpu(), model.tokenizer.decode(row.tolist()))
        for row in idx
    )
    return score(pairs)


def score(texts: Iterable[tuple[Tensor, str]]) -> Atlas:
    """The atlas of heads with weights (n_layer, n_head, T, T) on each of several texts of T characters."""
    totals: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    for weights, chars in texts:
        for name, (total, rows) in _sums(weights, chars).items():
            totals[name] = totals.get(name, torch.zeros(())) + total
            counts[name] = counts.get(name, 0) + rows
    means = {name: total / counts[name] for name, total in totals.items()}
    backs = {name: means.pop(name) for name in list(means) if name.startswith(BACK)}
    back = torch.zeros(0)
    if backs:
        best = torch.stack(list(backs.values())).max(0)
        means["back"] = best.values
        back = torch.tensor([int(name.removeprefix(BACK)) for name in backs])[best.indices[:-1]]
    return Atlas(
        {name: mean[-1, 0].item() for name, mean in means.items()},
        {name: mean[:-1].tolist() for name, mean in means.items()},
        back.tolist(),
    )


def _sums(weights: Tensor, chars: str) -> dict[str, tuple[Tensor, int]]:
    """For each detector the sum, (n_layer + 1, n_head), of what its score is the mean of, and over how many
    characters. The last row is that of heads that spread evenly."""
    T = len(chars)
    even = torch.ones(T, T).tril() / torch.arange(1, T + 1)[:, None]
    weights = torch.cat((weights, even.expand(1, *weights.shape[1:]))).double()
    sums = {
        name: ((weights * targets).sum((-2, -1)), int(targets.any(1).sum()))
        for name, targets in patterns(chars).items()
    }
    if T > 1:
        entropy = torch.special.entr(weights).sum(-1)[..., 1:] / torch.arange(2, T + 1).log()
        sums["even"] = (entropy.sum(-1), T - 1)
    return sums
