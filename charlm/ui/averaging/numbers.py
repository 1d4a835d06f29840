"""The averaging trick behind self-attention, in four versions (lecture: "the mathematical trick"), and every
matrix on the way written out.

Each version takes x (B, T, C) and gives every position an average over itself and the positions before it.
The first three agree; in the fourth, the positions themselves decide how much each one counts.
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from charlm.engine.sampling import MAX_SEED
from charlm.errors import check_range
from charlm.models.attention import mask_future

TEXT = "ROMEO:\nBut, soft"
"""The characters that stand at the positions."""
MAX_T = len(TEXT)
C = 4
"""Channels of x: few enough to be read."""
TIMED_LENGTHS = [2, 4, 8, 16, 32, 64, 128, 256]
PAIRS = 15
"""How often the loop and the matrix are timed, one after the other."""


def average_loop(x: Tensor) -> Tensor:
    """Version 1: the definition, one position at a time. (B, T, C) → (B, T, C)."""
    B, T, C = x.shape
    out = torch.zeros(B, T, C)
    for b in range(B):
        for t in range(T):
            out[b, t] = x[b, : t + 1].mean(dim=0)
    return out


def tril_weights(T: int) -> Tensor:
    """(T, T): row t holds 1/(t+1) up to the diagonal, then zeros."""
    wei = torch.tril(torch.ones(T, T))
    return wei / wei.sum(dim=1, keepdim=True)


def average_tril(x: Tensor) -> Tensor:
    """Version 2: all averages in one matrix product. (B, T, C) → (B, T, C)."""
    return tril_weights(x.shape[1]) @ x


def average_softmax(x: Tensor) -> Tensor:
    """Version 3: the same weights as a softmax of equal scores. (B, T, C) → (B, T, C)."""
    T = x.shape[1]
    wei = mask_future(torch.zeros(T, T)).softmax(dim=-1)
    return wei @ x


class Head(nn.Module):
    """Version 4, one head of self-attention: scores are how well my query fits your key.

    Vaswani et al., 2017. The scores are divided by √head_size so that their variance stays at one
    and the softmax does not sharpen with the size of the head.
    """

    def __init__(self, n_embd: int, head_size: int):
        super().__init__()
        self.query = nn.Linear(n_embd, head_size, bias=False)
        self.key = nn.Linear(n_embd, head_size, bias=False)
        self.value = nn.Linear(n_embd, head_size, bias=False)

    def scores(self, x: Tensor) -> Tensor:
        """q·k/√head_size before the mask. (B, T, C) → (B, T, T)."""
        q, k = self.query(x), self.key(x)
        return q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])

    def weights(self, x: Tensor) -> Tensor:
        """What each position takes from each. (B, T, C) → (B, T, T), rows sum to one."""
        return mask_future(self.scores(x)).softmax(dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) → (B, T, head_size)."""
        return self.weights(x) @ self.value(x)


PARTS = {
    1: (average_loop,),
    2: (tril_weights, average_tril),
    3: (mask_future, average_softmax),
    4: (mask_future, Head),
}
"""By version, what computes it."""


def code(version: int) -> str:
    """The PyTorch of a version, as it stands in the source."""
    return "\n\n".join(inspect.getsource(part) for part in PARTS[version])


@torch.no_grad()
def explain(version: int, T: int, seed: int) -> dict[str, Any]:
    """The matrices of one of the four versions for the first `T` characters of `TEXT`, as lists by name.

    x and the head's three matrices are random. `out` is `wei` @ `source`, and `source` is `x` or, in
    version 4, `v`. −∞ is None. `scales` holds by name the largest number, in size, that a matrix has when
    T is `MAX_T`, or 1 for weights; `projections` holds what version 4 multiplies x with; `three` and
    `differences` hold the results of versions 1, 2 and 3 and how far two of them are apart at most.
    Raises `CharlmError` for a number out of range.
    """
    check_range("version", version, 1, 4)
    check_range("T", T, 1, MAX_T)
    check_range("seed", seed, 0, MAX_SEED)
    # All positions are drawn and computed, then cut: what is shown of a position is the same to the bit,
    # whatever T is. Shorter matrices would be drawn, and rounded, in another order.
    generator = torch.Generator().manual_seed(seed)  # of our own: others may draw at the same time
    x = torch.randn(MAX_T, C, generator=generator)
    head = Head(C, C)
    for weight in head.parameters():
        # As `nn.Linear` does it.
        nn.init.kaiming_uniform_(weight, a=math.sqrt(5), generator=generator)
    three = [average(x[None])[0] for average in (average_loop, average_tril, average_softmax)]
    matrices = _matrices(version, x, head, three)
    results = [out[:T] for out in three]
    return {
        "version": version,
        "source": "v" if version == 4 else "x",
        "seed": seed,
        "chars": list(TEXT[:T]),
        "matrices": {
            name: _rows(matrix[:T, :T] if name in SQUARE else matrix[:T]) for name, matrix in matrices.items()
        },
        "scales": {name: 1.0 if name in WEIGHTS else _largest(matrix) for name, matrix in matrices.items()},
        "projections": {
            "q": _rows(head.query.weight),
            "k": _rows(head.key.weight),
            "v": _rows(head.value.weight),
        },
        "three": [_rows(out) for out in results],
        "differences": {
            f"{a + 1} and {b + 1}": (results[a] - results[b]).abs().max().item()
            for a, b in ((0, 1), (0, 2), (1, 2))
        },
    }


WEIGHTS = {"tril", "wei"}
SQUARE = {"scores", *WEIGHTS}
"""The matrices that have a column for each position."""


def _matrices(version: int, x: Tensor, head: Head, three: list[Tensor]) -> dict[str, Tensor]:
    """By name, what a version computes on its way; `three` are the results of the first three."""
    T = len(x)
    if version == 1:
        return {"x": x, "out": three[0]}
    if version == 2:
        return {"x": x, "tril": torch.tril(torch.ones(T, T)), "wei": tril_weights(T), "out": three[1]}
    if version == 3:
        scores = mask_future(torch.zeros(T, T))
        return {"x": x, "scores": scores, "wei": scores.softmax(dim=1), "out": three[2]}
    return {
        "x": x,
        "q": head.query(x),
        "k": head.key(x),
        "v": head.value(x),
        "scores": mask_future(head.scores(x)),
        "wei": head.weights(x),
        "out": head(x),
    }


def _rows(matrix: Tensor) -> list[list[float | None]]:
    return [[None if value == float("-inf") else value for value in row] for row in matrix.tolist()]


def _largest(matrix: Tensor) -> float:
    """In size, −∞ left out; 1 if all are 0."""
    return matrix[matrix.isfinite()].abs().max().item() or 1.0


def time_versions(lengths: list[int], pairs: int = PAIRS) -> list[dict[str, Any]]:
    """What the loop and the matrix product take for each T: `loop` and `tril`, medians in milliseconds, and
    `ratio`, the median of how many times as long the loop takes; the middle half of these lies between
    `low` and `high`. All three are None where the clock is too coarse.

    The clock is the CPU time of this thread: the two take a few milliseconds at most, and where the machine
    does something else either may wait for longer. They are run in turn; the first time does not count.
    """
    rows = []
    for T in lengths:
        x = torch.ones(1, T, 32)
        times = [(_milliseconds(average_loop, x), _milliseconds(average_tril, x)) for _ in range(1 + pairs)]
        loops, products = zip(*times[1:], strict=True)
        row = {
            "T": T,
            "loop": median(loops),
            "tril": median(products),
            "ratio": None,
            "low": None,
            "high": None,
        }
        if min(products) > 0:
            ratios = sorted(loop / tril for loop, tril in times[1:])
            quarter = pairs // 4
            row |= {"ratio": median(ratios), "low": ratios[quarter], "high": ratios[-1 - quarter]}
        rows.append(row)
    return rows


def _milliseconds(average: Callable[[Tensor], Tensor], x: Tensor) -> float:
    start = time.thread_time()
    average(x)
    return 1000 * (time.thread_time() - start)


def verdict(row: dict[str, Any]) -> str:
    """What a row of `time_versions` says, in a sentence."""
    at = f"At T = {row['T']}"
    ratio, low, high = row["ratio"], row["low"], row["high"]
    if ratio is None:
        return f"{at} one of them takes less time than this machine's clock can tell."
    if high > 2 * low:
        return (
            f"{at} the measurement is too noisy to say: for the middle half of the pairs the loop takes "
            f"from {low:.1f} to {high:.1f} times as long as the matrix. Measure again when less goes on."
        )
    if ratio < 1:
        return f"{at} the matrix takes {1 / ratio:.1f} times as long as the loop."
    return f"{at} the loop takes {ratio:.1f} times as long as the matrix."
