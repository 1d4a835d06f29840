"""Writing with plain PyTorch: until the kernel is compiled, and where it cannot run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from charlm.engine.runner import Runner, Saved
from charlm.models.attention import SelfAttention, mask_future
from charlm.models.rotary import angles
from charlm.models.trace import AttentionModel, attention_of

Attend: TypeAlias = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(layer, q, k, v), the three (n, n_head, T, head_size), to what the heads bring, of the same shape."""


class PlainRunner(Runner):
    """Keeps the keys and values of the latest `block_size` characters of each text in a ring, as
    `AttentionRunner` does, and gives the same logits but for the rounding of single precision."""

    def __init__(self, model: AttentionModel, slots: int):
        self._model: Any = model.rounded().eval().requires_grad_(False)
        self._heads = _cache_heads(self._model)
        self._scale = self._heads[0].heads.scale
        config = model.config
        self._rotary = config.parts.positions == "rotary"
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
            scores = q @ k.transpose(-2, -1) * self._scale
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
            scores = q @ keys.transpose(-2, -1) * self._scale
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
        cos, sin = angles(positions * self._rotary, self._head_size)
        if idx.shape[1] == 1:
            cos, sin = cos[:, None, None], sin[:, None, None]  # (n, 1, 1, head_size / 2)
        for heads in self._heads:
            heads.attend = attend
        x = self._model.embedding(idx)
        for layer in self._model.layers:
            x = layer(x, cos, sin)
        return self._model.unembed(x)


class _CachedHeads(nn.Module):
    """Stands in for the heads of a layer: `attend` looks back, also at what was read before."""

    attend: Attend

    def __init__(self, heads: SelfAttention, layer: int):
        super().__init__()
        self.heads, self.layer = heads, layer

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        out = self.attend(self.layer, *self.heads.queries_keys_values(x, cos, sin))
        return out.transpose(1, 2).flatten(2)


def _cache_heads(model: Any) -> list[_CachedHeads]:
    """Puts one in the place of the heads of every layer of `model`."""
    cached = []
    for i, layer in enumerate(model.layers):
        cached.append(_CachedHeads(attention_of(layer), i))
        if isinstance(layer, SelfAttention):
            model.layers[i] = cached[-1]
        else:
            layer.attention = cached[-1]
    return cached


class RereadingRunner(Runner):
    """Reads the latest `block_size` characters of a text anew for each that it writes, as the lecture does.

    Nothing can be remembered where positions are learned, for they change once the oldest character is left
    out, nor where a character sees the future, for what was read changes with what comes.
    """

    def __init__(self, model: AttentionModel, slots: int):
        self._model = model.rounded().eval().requires_grad_(False)
        self._block_size = model.config.block_size
        self._texts: list[np.ndarray] = [np.empty(0, np.int64)] * slots

    def prefill(self, slot: int, ids: np.ndarray) -> np.ndarray:
        self._texts[slot] = ids[-self._block_size :]
        return self._read(slot)

    def step(self, ids: np.ndarray) -> np.ndarray:
        for slot, drawn in enumerate(ids):
            self._texts[slot] = np.append(self._texts[slot], drawn)[-self._block_size :]
        return np.stack([self._read(slot) for slot in range(len(ids))])

    def move(self, source: int, target: int) -> None:
        self._texts[target] = self._texts[source]

    def save(self, slot: int) -> np.ndarray:
        return self._texts[slot]

    def restore(self, slot: int, saved: np.ndarray) -> None:
        self._texts[slot] = saved

    def resize(self, slots: int) -> None:
        self._texts = self._texts[:slots] + [np.empty(0, np.int64)] * (slots - len(self._texts))

    @torch.no_grad()
    def _read(self, slot: int) -> np.ndarray:
        logits, _ = self._model(torch.from_numpy(self._texts[slot])[None])
        return logits[0, -1].numpy()
