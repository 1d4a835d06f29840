"""The averaging trick, every matrix on the way written out."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from charlm.averaging import (
    Head,
    average_loop,
    average_softmax,
    average_tril,
    masked_scores,
    tril_weights,
)
from charlm.errors import check_range
from charlm.sampling import MAX_SEED

MAX_T = 256
C = 4
"""Channels of x: few enough to be read."""

LINES = {
    1: """\
torch.manual_seed(seed)
x = torch.randn(T, C)
out = torch.zeros(T, C)
for t in range(T):
    out[t] = x[: t + 1].mean(dim=0)
""",
    2: """\
torch.manual_seed(seed)
x = torch.randn(T, C)
tril = torch.tril(torch.ones(T, T))
wei = tril / tril.sum(dim=1, keepdim=True)
out = wei @ x
""",
    3: """\
torch.manual_seed(seed)
x = torch.randn(T, C)
tril = torch.tril(torch.ones(T, T))
scores = torch.zeros(T, T).masked_fill(tril == 0, float("-inf"))
wei = scores.softmax(dim=1)
out = wei @ x
""",
    4: """\
torch.manual_seed(seed)
x = torch.randn(T, C)
query, key, value = (nn.Linear(C, C, bias=False) for _ in range(3))
q, k, v = query(x), key(x), value(x)
tril = torch.tril(torch.ones(T, T))
scores = (q @ k.T / C**0.5).masked_fill(tril == 0, float("-inf"))
wei = scores.softmax(dim=1)
out = wei @ v
""",
}
"""By version, what the page shows and computes."""


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
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        x = torch.randn(T, C)
        head = Head(C, C)
    three = [average(x[None])[0] for average in (average_loop, average_tril, average_softmax)]
    matrices: dict[str, Tensor] = {"x": x, "tril": torch.tril(torch.ones(T, T))}
    source = "x"
    if version in (1, 2):
        matrices |= {"wei": tril_weights(T), "out": three[version - 1]}
    elif version == 3:
        scores = masked_scores(torch.zeros(T, T))
        matrices |= {"scores": scores, "wei": scores.softmax(dim=1), "out": three[2]}
    else:
        source = "v"
        matrices |= {"q": head.query(x), "k": head.key(x), "v": head.value(x)}
        matrices |= {"scores": masked_scores(head.scores(x)), "wei": head.weights(x), "out": head(x)}
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
