"""The trick behind self-attention, in four versions (lecture: "the mathematical trick").

Each takes x (B, T, C) and gives every position an average over itself and the positions before it.
The first three agree; in the fourth, the positions themselves decide how much each one counts.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


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


def masked_scores(scores: Tensor) -> Tensor:
    """Scores (…, T, T) with the future set to −∞, so that softmax gives it no weight."""
    T = scores.shape[-1]
    return scores.masked_fill(torch.tril(torch.ones(T, T)) == 0, float("-inf"))


def average_softmax(x: Tensor) -> Tensor:
    """Version 3: the same weights as a softmax of equal scores. (B, T, C) → (B, T, C)."""
    T = x.shape[1]
    wei = masked_scores(torch.zeros(T, T)).softmax(dim=-1)
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
        return masked_scores(self.scores(x)).softmax(dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) → (B, T, head_size)."""
        return self.weights(x) @ self.value(x)
