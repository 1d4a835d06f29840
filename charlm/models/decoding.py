"""Writing on: models that remember what they have read, in many texts at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from charlm.models.attention import AttentionLanguageModel
    from charlm.models.bigram import BigramLanguageModel
    from charlm.models.kernel import Weights


class Decoder(ABC):
    """Texts in numbered slots, the ones in use side by side from slot 0 on. Computes on the CPU."""

    @abstractmethod
    def read(self, slot: int, ids: np.ndarray) -> np.ndarray:
        """Begins the text of `slot` anew with ids (T,): logits (vocab_size,) of what comes next."""

    @abstractmethod
    def step(self, ids: np.ndarray) -> np.ndarray:
        """Reads ids (n,), the next character of each text in slots 0 … n-1: logits (n, vocab_size)."""

    @abstractmethod
    def move(self, source: int, target: int) -> None:
        """Puts the text of slot `source` into slot `target`, to fill a gap."""

    @abstractmethod
    def resize(self, slots: int) -> None:
        """Makes room for more texts; those that are there stay."""


class BigramDecoder(Decoder):
    """Remembers nothing: the last character is all that counts."""

    def __init__(self, model: BigramLanguageModel):
        self.table = model.token_embedding_table.weight.detach().cpu().numpy()

    def read(self, slot: int, ids: np.ndarray) -> np.ndarray:
        return self.table[ids[-1]]

    def step(self, ids: np.ndarray) -> np.ndarray:
        return self.table[ids]

    def move(self, source: int, target: int) -> None:
        pass

    def resize(self, slots: int) -> None:
        pass


class AttentionDecoder(Decoder):
    """Keeps the keys and values of the latest `block_size` characters of each text: a ring buffer.

    Rotary positions make scores depend on distances alone, so the oldest entry can be overwritten
    where it stands and the order of the entries does not matter. A character therefore costs the
    same however much has been written. Weights are rounded to half precision, as checkpoints have
    them.
    """

    def __init__(self, model: AttentionLanguageModel, slots: int):
        # Numba takes its time to import: not everybody who imports the models writes with them.
        from charlm.models import kernel

        self._step = kernel.step
        self._weights = _weights(model)
        self._logits = self._weights.head.shape[1] * kernel.TILE
        bias = model.lm_head.bias
        self._bias = 0 if bias is None else bias.detach().cpu().numpy()
        config = model.config
        self._vocab_size, self._block_size = config.vocab_size, config.block_size
        half = config.head_size // 2
        self._frequencies = 10_000.0 ** -(np.arange(half) / half)
        self._lengths: np.ndarray = np.zeros(slots, np.int64)
        """How many characters each text has."""
        heads, tile = (slots, config.n_layer, config.n_head), kernel.TILE
        key_tiles, value_tiles = (-(-size // tile) for size in (config.block_size, config.head_size))
        self._keys = np.zeros((*heads, key_tiles, config.head_size, tile), np.float32)
        self._values = np.zeros((*heads, value_tiles, config.block_size, tile), np.float32)
        # Each thread writes some of the texts from start to end: they never wait for each other.
        self._threads = ThreadPoolExecutor(torch.get_num_threads(), "charlm-decoder")

    def read(self, slot: int, ids: np.ndarray) -> np.ndarray:
        new = ids[-self._block_size :]
        self._lengths[slot] = len(new)
        slots = np.full(len(new), slot)
        return self._run(new, slots, np.arange(len(new)))[-1]

    def step(self, ids: np.ndarray) -> np.ndarray:
        n = len(ids)
        slots, positions = np.arange(n), self._lengths[:n].copy()
        self._lengths[:n] += 1
        if n == 1:
            return self._run(ids, slots, positions)
        parts = min(n, torch.get_num_threads())
        rows = (np.array_split(a, parts) for a in (ids, slots, positions))
        return np.concatenate(list(self._threads.map(self._run, *rows)))

    def move(self, source: int, target: int) -> None:
        for kept in (self._keys, self._values, self._lengths):
            kept[target] = kept[source]

    def resize(self, slots: int) -> None:
        self._keys, self._values, self._lengths = (
            np.concatenate((kept, np.zeros((slots - len(kept), *kept.shape[1:]), kept.dtype)))
            for kept in (self._keys, self._values, self._lengths)
        )

    def _run(self, ids: np.ndarray, slots: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Characters ids (n,) of the texts in `slots` → logits (n, vocab_size)."""
        angles = positions[:, None] * self._frequencies
        cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
        logits = np.empty((len(ids), self._logits), np.float32)
        # Contiguous, so that there is one compiled version of the kernel, which always rounds alike.
        ids = np.ascontiguousarray(ids, np.int64)
        self._step(self._weights, ids, slots, positions, cos, sin, self._keys, self._values, logits)
        return logits[:, : self._vocab_size] + self._bias


def _weights(model: AttentionLanguageModel) -> Weights:
    """The weights as the kernel reads them."""
    from charlm.models.kernel import Weights, tiles

    layers: list[Any] = list(model.layers)
    blocks = layers if model.config.decoder else []
    attentions = [block.attention for block in blocks] or layers
    if blocks:
        gains = torch.stack([attention.gain.detach()[:, 0, 0] for attention in attentions])
    else:
        gains = torch.ones(model.config.n_layer, model.config.n_head)
    return Weights(
        _halves([model.embedding.weight])[0].astype(np.float32),
        gains.cpu().numpy(),
        tiles(_halves([attention.qkv.weight for attention in attentions])),
        tiles(_halves([block.projection.weight for block in blocks])),
        tiles(_halves([block.mlp.up.weight for block in blocks])),
        tiles(_halves([block.mlp.down.weight for block in blocks])),
        tiles(_halves([model.lm_head.weight])),
    )


def _halves(weights: list[Tensor]) -> np.ndarray:
    """Matrices of one shape → (n, outputs, inputs) in half precision."""
    if not weights:
        return np.empty((0, 0, 0), np.float16)
    return torch.stack(weights).detach().cpu().half().numpy()
