"""Writing on: models that remember what they have read, in many texts at once.

The same computation as the models' `forward`, arranged for one new character a text: what the
earlier characters left behind is kept, and as few operators as possible are called, because for
models this small calling an operator costs more than what it computes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from charlm.models.attention import AttentionLanguageModel, CausalSelfAttention
    from charlm.models.bigram import BigramLanguageModel


class Decoder(ABC):
    """Texts in numbered slots, the ones in use side by side from slot 0 on."""

    @abstractmethod
    def read(self, slot: int, ids: Tensor) -> Tensor:
        """Begins the text of `slot` anew with ids (T,): logits (vocab_size,) of what comes next."""

    @abstractmethod
    def step(self, ids: Tensor) -> Tensor:
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
        self.table = model.token_embedding_table.weight.detach()

    def read(self, slot: int, ids: Tensor) -> Tensor:
        return self.table[ids[-1]]

    def step(self, ids: Tensor) -> Tensor:
        return self.table[ids]

    def move(self, source: int, target: int) -> None:
        pass

    def resize(self, slots: int) -> None:
        pass


EPSILON = torch.finfo(torch.float32).eps
Product = Callable[[Tensor], Tensor]


class _Layer(NamedTuple):
    qkv: Product
    projection: Product | None
    up: Product | None
    down: Product | None


def product(weight: Tensor) -> Product:
    """x (n, C) → x @ weight.T, for a weight (out, C) whose values are half precision.

    FBGEMM keeps the weight packed in half precision and computes in single: half the bytes to read,
    and several times as fast for a row or a few. It is there on x86 processors alone.
    """
    if weight.device.type == "cpu" and "fbgemm" in torch.backends.quantized.supported_engines:
        packed = torch.ops.quantized.linear_prepack_fp16(weight.contiguous(), None)
        return lambda x: torch.ops.quantized.linear_dynamic_fp16(x, packed)
    return lambda x: F.linear(x, weight)


class AttentionDecoder(Decoder):
    """Keeps the keys and values of the latest `block_size` characters of each text: a ring buffer.

    Rotary positions make scores depend on distances alone, so the oldest entry can be overwritten
    where it stands and the order of the entries does not matter. A character therefore costs the
    same however much has been written.
    """

    def __init__(self, model: AttentionLanguageModel, slots: int):
        config = self.config = model.config
        self.embedding = model.embedding.weight.detach()
        self.head = product(model.lm_head.weight.detach())
        self.bias = model.lm_head.bias
        self.layers = [_weights(layer, config.decoder) for layer in model.layers]
        gains = torch.ones(config.n_layer, 1, 2, config.n_head, 1, device=model.device)
        if config.decoder:
            gains[:, 0, 0] = torch.stack([layer.attention.gain.detach()[:, 0] for layer in model.layers])
        self.gains = gains
        half = config.head_size // 2
        exponents = torch.arange(half, dtype=torch.float64, device=model.device) / half
        self.frequencies = 10_000.0**-exponents
        self.lengths: list[int] = []
        """How many characters each text has."""
        shape = (config.n_layer, 0, 2, config.n_head, config.block_size, config.head_size)
        self.cache = torch.zeros(shape, device=model.device)
        self.resize(slots)

    def read(self, slot: int, ids: Tensor) -> Tensor:
        ids = ids[-self.config.block_size :]
        T = len(ids)

        def attend(layer: int, q: Tensor, kv: Tensor) -> Tensor:
            self.cache[layer, slot, :, :, :T] = kv.permute(1, 2, 0, 3)
            k, v = self.cache[layer, slot, :, :, :T]
            return F.scaled_dot_product_attention(q.transpose(0, 1), k, v, is_causal=True).transpose(0, 1)

        self.lengths[slot] = T
        return self._run(ids, torch.arange(T, device=ids.device), attend)[-1]

    def step(self, ids: Tensor) -> Tensor:
        n, block_size = len(ids), self.config.block_size
        positions = torch.tensor(self.lengths[:n], device=ids.device)
        places = positions % block_size
        slots = torch.arange(n, device=ids.device)
        longest = min(max(self.lengths[:n]) + 1, block_size)
        mask = None
        if min(self.lengths[:n]) + 1 < longest:
            mask = (torch.arange(longest, device=ids.device) <= positions[:, None])[:, None, None]

        def attend(layer: int, q: Tensor, kv: Tensor) -> Tensor:
            cache = self.cache[layer, :n]
            cache[slots, :, :, places] = kv
            k, v = cache[:, 0, :, :longest], cache[:, 1, :, :longest]
            return F.scaled_dot_product_attention(q[:, :, None], k, v, attn_mask=mask)

        for slot in range(n):
            self.lengths[slot] += 1
        return self._run(ids, positions, attend)

    def move(self, source: int, target: int) -> None:
        self.cache[:, target] = self.cache[:, source]
        self.lengths[target] = self.lengths[source]

    def resize(self, slots: int) -> None:
        n_layer, before, *entry = self.cache.shape
        self.cache = torch.cat((self.cache, self.cache.new_zeros(n_layer, slots - before, *entry)), dim=1)
        self.lengths += [0] * (slots - before)

    def _run(self, ids: Tensor, positions: Tensor, attend) -> Tensor:
        """Characters ids (n,) at `positions` (n,) of their texts → logits (n, vocab_size)."""
        decoder, C, H = self.config.decoder, self.config.n_embd, self.config.n_head
        n, D = len(ids), C // H
        angles = positions[:, None] * self.frequencies
        turns = torch.polar(torch.ones_like(angles), angles).to(torch.complex64)
        turns = turns[:, None, None] * self.gains
        x = self.embedding[ids]
        for i, layer in enumerate(self.layers):
            qkv = layer.qkv(_rms_norm(x) if decoder else x).view(n, 3, H, D)
            if decoder:
                qkv[:, :2] = _rms_norm(qkv[:, :2])
            # A pair of channels as one complex number: turning it is one multiplication.
            torch.view_as_complex(qkv.view(n, 3, H, D // 2, 2))[:, :2].mul_(turns[i])
            heads = attend(i, qkv[:, 0], qkv[:, 1:]).reshape(n, C)
            if not decoder:
                x = heads
                continue
            x = x + layer.projection(heads)
            up = layer.up(_rms_norm(x)).relu_()
            x += layer.down(up.mul_(up))
        logits = self.head(_rms_norm(x) if decoder else x)
        return logits if self.bias is None else logits + self.bias


def _rms_norm(x: Tensor) -> Tensor:
    """`F.rms_norm` over the last dimension, in fewer operators."""
    return x * x.square().mean(dim=-1, keepdim=True).add_(EPSILON).rsqrt_()


def _weights(layer: CausalSelfAttention, decoder: bool) -> _Layer:
    """The weights of a layer, the channels of queries and keys reordered so that the two that are
    turned together lie side by side: their products stay the same."""
    attention = layer.attention if decoder else layer
    qkv = attention.qkv.weight.detach().unflatten(0, (3, attention.n_head, 2, -1))
    qk = qkv[:2].transpose(2, 3).flatten(0, 3)
    qkv = product(torch.cat((qk, qkv[2].flatten(0, 2))))
    if not decoder:
        return _Layer(qkv, None, None, None)
    rest = (layer.projection, layer.mlp.up, layer.mlp.down)
    return _Layer(qkv, *(product(linear.weight.detach()) for linear in rest))
