"""Writing on: runners remember what they have read, in many texts at once."""

from __future__ import annotations

import functools
import os
import platform
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from charlm.engine.plain import PlainRunner, RereadingRunner
from charlm.engine.runner import Runner, Saved
from charlm.models import GPT, AttentionLanguageModel, BigramLanguageModel, LanguageModel, Transformer
from charlm.models.rotary import frequencies

if TYPE_CHECKING:
    from charlm.engine.kernel import GPTWeights, HeadsWeights

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
"""How many processors this process may use."""
POOL = ThreadPoolExecutor(CORES, "charlm-engine")
"""The threads that share the texts of a step."""


def runner_for(model: LanguageModel, slots: int = 1, plain: bool = False) -> Runner:
    """What writes on with the weights of `model`, in up to `slots` texts at once: with the kernel, or
    with plain PyTorch if `plain` or if the kernel cannot."""
    if isinstance(model, BigramLanguageModel):
        return BigramRunner(model)
    if isinstance(model, AttentionLanguageModel | GPT):
        return AttentionRunner(model, slots) if has_kernel(model) and not plain else PlainRunner(model, slots)
    if isinstance(model, Transformer):
        parts = model.config.parts
        remembers = parts.causal and parts.positions != "learned"
        return PlainRunner(model, slots) if remembers else RereadingRunner(model, slots)
    raise TypeError(f"no runner for {type(model).__name__}")


def has_kernel(model: LanguageModel) -> bool:
    """Whether the kernel computes a `model` like this, and can run here."""
    return isinstance(model, AttentionLanguageModel | GPT) and is_usable()


@functools.cache
def is_usable() -> bool:
    """Whether the kernel can run here: Numba is there, and the processor reads half precision."""
    try:
        from llvmlite import binding
        from numba import config
    except ImportError:
        return False
    if platform.machine().lower() not in ("x86_64", "amd64", "i386", "i686"):
        return True
    features = config.CPU_FEATURES
    return "+f16c" in (binding.get_host_cpu_features().flatten() if features is None else features)


class BigramRunner(Runner):
    """Remembers nothing: the last character is all that counts."""

    def __init__(self, model: BigramLanguageModel):
        self.table = model.token_embedding_table.weight.detach().cpu().numpy().copy()

    def prefill(self, slot: int, ids: np.ndarray) -> np.ndarray:
        return self.table[ids[-1]]

    def step(self, ids: np.ndarray) -> np.ndarray:
        return self.table[ids]

    def move(self, source: int, target: int) -> None:
        pass

    def save(self, slot: int) -> None:
        pass

    def restore(self, slot: int, saved: None) -> None:
        pass

    def resize(self, slots: int) -> None:
        pass


class AttentionRunner(Runner):
    """Keeps the keys and values of the latest `block_size` characters of each text: a ring buffer.

    Rotary positions make scores depend on distances alone, so the oldest entry can be overwritten
    where it stands and the order of the entries does not matter. A character therefore costs the
    same however much has been written. Weights are rounded to half precision, as checkpoints have
    them.
    """

    def __init__(self, model: AttentionLanguageModel | GPT, slots: int):
        # Numba takes its time to import: not everybody who imports the engine writes with a kernel.
        from charlm.engine import kernel

        step = kernel.gpt_step if isinstance(model, GPT) else kernel.heads_step
        self._kernel = partial(kernel.run, step)
        self._weights = _gpt_weights(model) if isinstance(model, GPT) else _heads_weights(model)
        self._padded_vocab_size = self._weights.lm_head.shape[1] * kernel.TILE
        bias = model.lm_head.bias
        self._bias = 0 if bias is None else bias.detach().cpu().numpy().copy()
        config = model.config
        self._vocab_size, self._block_size = config.vocab_size, config.block_size
        self._frequencies = frequencies(config.head_size).numpy()
        self._lengths: np.ndarray = np.zeros(slots, np.int64)
        """How many characters each text has."""
        heads, tile = (slots, config.n_layer, config.n_head), kernel.TILE
        key_tiles, value_tiles = kernel.tiles_for(config.block_size), kernel.tiles_for(config.head_size)
        self._keys = np.zeros((*heads, key_tiles, config.head_size, tile), np.float32)
        self._values = np.zeros((*heads, value_tiles, config.block_size, tile), np.float32)

    def prefill(self, slot: int, ids: np.ndarray) -> np.ndarray:
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
        # Each thread does some of the texts from start to end: they never wait for each other.
        parts = min(n, CORES)
        rows = (np.array_split(a, parts) for a in (ids, slots, positions))
        return np.concatenate(list(POOL.map(self._run, *rows)))

    def move(self, source: int, target: int) -> None:
        for kept in (self._keys, self._values, self._lengths):
            kept[target] = kept[source]

    def save(self, slot: int) -> Saved:
        keys = self._keys[slot].swapaxes(-1, -2)  # (n_layer, n_head, tiles, TILE, head_size)
        values = self._values[slot].swapaxes(-2, -3)  # (n_layer, n_head, block_size, tiles, TILE)
        (n_layer, n_head, T), head_size = values.shape[:3], keys.shape[-1]
        return Saved(
            keys.reshape(n_layer, n_head, -1, head_size)[:, :, :T].copy(),
            values.reshape(n_layer, n_head, T, -1)[..., :head_size].copy(),
            int(self._lengths[slot]),
        )

    def restore(self, slot: int, saved: Saved) -> None:
        n_layer, n_head, T, head_size = saved.keys.shape
        tiles, tile = self._keys.shape[3], self._keys.shape[-1]
        keys = np.zeros((n_layer, n_head, tiles * tile, head_size), np.float32)
        keys[:, :, :T] = saved.keys
        self._keys[slot] = keys.reshape(n_layer, n_head, tiles, tile, head_size).swapaxes(-1, -2)
        tiles = self._values.shape[3]
        values = np.zeros((n_layer, n_head, T, tiles * tile), np.float32)
        values[..., :head_size] = saved.values
        self._values[slot] = values.reshape(n_layer, n_head, T, tiles, tile).swapaxes(-2, -3)
        self._lengths[slot] = saved.length

    def resize(self, slots: int) -> None:
        self._keys, self._values, self._lengths = (
            np.concatenate((kept[:slots], np.zeros((max(0, slots - len(kept)), *kept.shape[1:]), kept.dtype)))
            for kept in (self._keys, self._values, self._lengths)
        )

    def _run(self, ids: np.ndarray, slots: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Characters ids (n,) of the texts in `slots` → logits (n, vocab_size)."""
        angles = positions[:, None] * self._frequencies
        cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
        logits = np.empty((len(ids), self._padded_vocab_size), np.float32)
        # Contiguous, so that there is one compiled version of the kernel, which always rounds alike.
        ids = np.ascontiguousarray(ids, np.int64)
        self._kernel(self._weights, ids, slots, positions, cos, sin, self._keys, self._values, logits)
        return logits[:, : self._vocab_size] + self._bias


def _heads_weights(model: AttentionLanguageModel) -> HeadsWeights:
    """The weights as the kernel reads them."""
    from charlm.engine.kernel import HeadsWeights, tiles

    layers: list[Any] = list(model.layers)
    return HeadsWeights(
        _halves([model.embedding.weight])[0].astype(np.float32),
        tiles(_halves([attention.qkv.weight for attention in layers])),
        tiles(_halves([model.lm_head.weight])),
    )


def _gpt_weights(model: GPT) -> GPTWeights:
    """The weights as the kernel reads them."""
    from charlm.engine.kernel import GPTWeights, tiles

    blocks: list[Any] = list(model.layers)
    return GPTWeights(
        _halves([model.embedding.weight])[0].astype(np.float32),
        torch.stack([block.attention.gain.detach()[:, 0, 0] for block in blocks]).cpu().numpy(),
        tiles(_halves([block.attention.qkv.weight for block in blocks])),
        tiles(_halves([block.projection.weight for block in blocks])),
        tiles(_halves([block.mlp.up.weight for block in blocks])),
        tiles(_halves([block.mlp.down.weight for block in blocks])),
        tiles(_halves([model.lm_head.weight])),
    )


def _halves(weights: list[Tensor]) -> np.ndarray:
    """Matrices of one shape → (n, outputs, inputs) in half precision."""
    return torch.stack(weights).detach().cpu().half().numpy()
