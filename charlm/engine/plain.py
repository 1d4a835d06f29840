"""Writing with plain PyTorch and a cache of keys and values: until the kernel is compiled, and where it
cannot run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from charlm.engine.runner import Runner, Saved
from charlm.models import GPT, AttentionLanguageModel
from charlm.models.attention import mask_future
from charlm.models.gpt import Block
from charlm.models.rotary import angles

Attend: TypeAlias = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(layer, q, k, v), the three (n, n_head, T, head_size), to what the heads bring, of the same shape."""


class PlainRunner(Runner):
    """Keeps the keys and values of the latest `block_size` characters of each text in a ring, as
    `AttentionRunner` does, and gives the same logits but for the rounding of single precision."""

    def __init__(self, model: AttentionLanguageModel | GPT, slots: int):
        self._model: Any = model.rounded().eval().requires_grad_(False)
        config = model.config
        self._block_size, self._head_size = config.block_size, config.head_size
        self._lengths = torch.zeros(slots, dtype=torch.long)
        shape = (slots, config.n_layer, config.n_head, config.block_size, config.head_size)
        self._keys, self._values = torch.zeros(shape), torch.zeros(shape)

    def prefill(self, slot: int, ids: np.ndarray) -> np.ndarray:
        new = torch.from_numpy(ids[-self._block_size :])
        T = len(new)
        self._lengths[slot] = T

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            self._keys[slot, layer, :, :T], self._values[slot, layer, :, :T] = k[0], v[0]
            scores = q @ k.transpose(-2, -1) / self._head_size**0.5
            return mask_future(scores).softmax(-1) @ v

        return self._run(new[None], torch.arange(T), attend)[0, -1].numpy()

    def step(self, ids: np.ndarray) -> np.ndarray:
        n = len(ids)
        every, positions = torch.arange(n), self._lengths[:n].clone()
        self._lengths[:n] += 1
        place = positions % self._block_size
        empty = torch.arange(self._block_size) > positions[:, None]  # (n, block_size)

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            keys, values = self._keys[:n, layer], self._values[:n, layer]
            keys[every, :, place], values[every, :, place] = k[:, :, 0], v[:, :, 0]
            scores = q @ keys.transpose(-2, -1) / self._head_size**0.5
            return scores.masked_fill(empty[:, None, None], float("-inf")).softmax(-1) @ values

        return self._run(torch.from_numpy(ids)[:, None], positions, attend)[:, -1].numpy()

    def move(self, source: int, target: int) -> None:
        for kept in (self._keys, self._values, self._lengths):
            kept[target] = kept[source]

    def save(self, slot: int) -> Saved:
        return Saved(
            self._keys[slot].numpy().copy(), self._values[slot].numpy().copy(), int(self._lengths[slot])
        )

    def restore(self, slot: int, saved: Saved) -> None:
        self._keys[slot], self._values[slot] = torch.from_numpy(saved.keys), torch.from_numpy(saved.values)
        self._lengths[slot] = saved.length

    def resize(self, slots: int) -> None:
        self._keys, self._values, self._lengths = (
            torch.cat((kept[:slots], kept.new_zeros(max(0, slots - len(kept)), *kept.shape[1:])))
            for kept in (self._keys, self._values, self._lengths)
        )

    @torch.no_grad()
    def _run(self, idx: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """Ids (n, T) → logits (n, T, vocab_size). The positions are those of the T characters of one text, or
        of the one of each text."""
        cos, sin = angles(positions, self._head_size)
        if idx.shape[1] == 1:
            cos, sin = cos[:, None, None], sin[:, None, None]  # (n, 1, 1, head_size / 2)
        x = self._model.embedding(idx)
        for i, layer in enumerate(self._model.layers):
            run = _block if isinstance(layer, Block) else _heads
            x = run(layer, i, x, cos, sin, attend)
        return self._model.unembed(x)


def _heads(attention: Any, i: int, x: Tensor, cos: Tensor, sin: Tensor, attend: Attend) -> Tensor:
    """As `SelfAttention.forward`, with another `attend`."""
    return attend(i, *attention.queries_keys_values(x, cos, sin)).transpose(1, 2).flatten(2)


def _block(block: Block, i: int, x: Tensor, cos: Tensor, sin: Tensor, attend: Attend) -> Tensor:
    """As `Block.forward`, with another `attend`."""
    x = x + block.projection(_heads(block.attention, i, block.norm(x), cos, sin, attend))
    return x + block.mlp(block.norm(x))
