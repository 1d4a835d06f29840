"""A forward pass on which everything is kept, for the pages that explain it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from charlm.models.attention import AttentionLanguageModel, SelfAttention
from charlm.models.base import check_length
from charlm.models.gpt import GPT
from charlm.models.transformer import Transformer

AttentionModel: TypeAlias = AttentionLanguageModel | Transformer | GPT
"""The models that look back."""


@dataclass(frozen=True)
class Trace:
    """What a text went through, layer by layer."""

    scores: Tensor
    """q·k/√d before the mask and the softmax, (n_layer, B, n_head, T, T)."""
    weights: Tensor
    """After mask and softmax, of the same shape: rows sum to one, and nothing lies above the diagonal, unless
    the model has no mask."""
    residual: Tensor
    """The channels after the embedding and after each layer, (n_layer + 1, B, T, C)."""


@torch.no_grad()
def trace(model: AttentionModel, idx: Tensor) -> Trace:
    """What `model`, in eval mode, does with idx (B, T): the same layers in the same order as its
    `forward`, which gives `model.unembed(residual[-1])`.

    Raises `CharlmError` if T exceeds block_size.
    """
    T = idx.shape[1]
    check_length(T, model.config.block_size)
    cos, sin = model.cos[:T], model.sin[:T]
    x = model.embedding(idx)
    scores, residual = [], [x]
    layers: list[Any] = list(model.layers)
    for layer in layers:
        scores.append(layer.scores(x, cos, sin))
        x = layer(x, cos, sin)
        residual.append(x)
    stacked = torch.stack(scores)
    weights = attention_of(layers[0]).weights(stacked)
    return Trace(stacked, weights, torch.stack(residual))


def attention_of(layer: nn.Module) -> SelfAttention:
    """The heads of a layer, of whichever model."""
    heads = layer if isinstance(layer, SelfAttention) else layer.attention
    assert isinstance(heads, SelfAttention)
    return heads


def resume(model: AttentionModel, x: Tensor, layer: int) -> Tensor:
    """The rest of a forward pass: channels x (B, T, C) after `layer` layers → logits (B, T, vocab_size)."""
    T = x.shape[1]
    layers: list[Any] = list(model.layers)
    for later in layers[layer:]:
        x = later(x, model.cos[:T], model.sin[:T])
    return model.unembed(x)
