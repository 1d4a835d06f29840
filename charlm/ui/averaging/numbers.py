"""The averaging trick behind self-attention, in four versions (lecture: "the mathematical trick"), and every
matrix on the way written out.

Each version takes x (B, T, C) and gives every position an average over itself and the positions before it.
The first three agree; in the fourth, the positions themselves decide how much each one counts.
"""

from __future__ import annotations

import inspect
import math
import time
from typing import Any

import torch
from torch import Tensor, nn

from charlm.engine.sampling import MAX_SEED
from charlm.errors import check_range
from charlm.models.attention import mask_future

MAX_T = 256
C = 4
"""Channels of x: few enough to be read."""


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
    """The matrices of one of the four versions for `T` positions, as nested lists by name.

    `out` is `wei` @ `source`, and `source` is `x` or, in version 4, `v`. −∞ is None. `differences`
    holds the largest differences between the results of versions 1, 2 and 3. Raises `CharlmError` for
    a number out of range.
    """
    check_range("version", version, 1, 4)
    check_range("T", T, 1, MAX_T)
    check_range("seed", seed, 0, MAX_SEED)
    generator = torch.Generator().manual_seed(seed)  # of our own: others may draw at the same time
    x = torch.randn(T, C, generator=generator)
    head = Head(C, C)
    for weight in head.parameters():
        # As `nn.Linear` does it.
        nn.init.kaiming_uniform_(weight, a=math.sqrt(5), generator=generator)
    three = [average(x[None])[0] for average in (average_loop, average_tril, average_softmax)]
    matrices: dict[str, Tensor] = {"x": x, "tril": torch.tril(torch.ones(T, T))}
    source = "x"
    if version in (1, 2):
        matrices |= {"wei": tril_weights(T), "out": three[version - 1]}
    elif version == 3:
        scores = mask_future(torch.zeros(T, T))
        matrices |= {"scores": scores, "wei": scores.softmax(dim=1), "out": three[2]}
    else:
        source = "v"
        matrices |= {"q": head.query(x), "k": head.key(x), "v": head.value(x)}
        matrices |= {"scores": mask_future(head.scores(x)), "wei": head.weights(x), "out": head(x)}
    return {
        "version": version,
        "source": source,
        "matrices": {name: _rows(matrix) for name, matrix in matrices.items()},
        "three": [_rows(out) for out in three],
        "differences": {
            f"{a + 1} and {b + 1}": (three[a] - three[b]).abs().max().item()
            for a, b in ((0, 1), (0, 2), (1, 2))
        },
    }


def _rows(matrix: Tensor) -> list[list[float | None]]:
    return [[None if value == float("-inf") else value for value in row] for row in matrix.tolist()]


def time_versions(lengths: list[int], repeats: int = 5) -> list[dict[str, float]]:
    """Milliseconds that the loop and the matrix product take for each T, the best of `repeats`.

    The two are run in turn, so that whatever else the machine does slows both.
    """
    rows = []
    for T in lengths:
        x = torch.randn(1, T, 32)
        best = {"loop": float("inf"), "tril": float("inf")}
        for _ in range(repeats):
            for name, average in (("loop", average_loop), ("tril", average_tril)):
                start = time.perf_counter()
                average(x)
                best[name] = min(best[name], 1000 * (time.perf_counter() - start))
        rows.append({"T": T, **best})
    return rows
