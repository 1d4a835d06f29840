"""Rotary positions (RoPE, Su et al., 2021): how the attention models know the order of characters.

There is no table of positions to learn. Each pair of a head's channels is turned by an angle that grows
with the position, so that q·k depends on the distance between two characters alone, and generation may
go on for ever.
"""

from __future__ import annotations

import torch
from torch import Tensor


def frequencies(head_size: int) -> Tensor:
    """(head_size / 2,) float64: by how much each pair of channels turns from one position to the next."""
    half = head_size // 2
    return 10_000.0 ** (-torch.arange(half, dtype=torch.float64) / half)


def angles(positions: Tensor, head_size: int) -> tuple[Tensor, Tensor]:
    """cos and sin, (T, head_size / 2) each, of the angles at positions (T,)."""
    turned = positions.double()[:, None] * frequencies(head_size)
    return turned.cos().float(), turned.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (…, T, head_size), each pair of channels turned by its position's angle."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)
