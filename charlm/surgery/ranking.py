"""What each head is worth: how much the loss grows without it (Michel et al., 2019, "Are Sixteen Heads Really
Better than One?")."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from charlm.models import LanguageModel
from charlm.models.base import cross_entropy
from charlm.models.trace import AttentionModel, resume
from charlm.surgery.edits import AverageHead, Edit, ScaleHead, all_average, attentive
from charlm.training.excerpt import Excerpt


@dataclass(frozen=True)
class Ranking:
    """Losses on one excerpt, in nats per character."""

    loss: float
    """Of the model as it was learned."""
    all_averaged: float
    """With every head a plain average."""
    bigram: float | None
    """Of the excerpt's pairs of characters, if it is known."""
    silent: list[list[float]]
    """By how much the loss grows if one head is silenced, by layer and head."""
    average: list[list[float]]
    """By how much the loss grows if one head is made a plain average, by layer and head."""


@torch.no_grad()
def rank(model: LanguageModel, excerpt: Excerpt, progress: Callable[[float], None]) -> Ranking:
    """What each head of `model`, in eval mode, is worth on `excerpt`.

    `progress` is told how much is done, from 0 to 1; what it raises ends the work. Raises `CharlmError` for a
    model without heads, or an excerpt with longer blocks or other characters than the model reads.
    """
    model = attentive(model)
    n_layer, n_head = model.config.n_layer, model.config.n_head
    batches = excerpt.batches(model)
    losses = torch.zeros(2 * n_layer * n_head + 2, dtype=torch.float64)
    for i, (x, y) in enumerate(batches):
        for j, loss in enumerate(_losses(model, x, y)):
            losses[j] += loss * len(x) / len(excerpt.blocks)
            progress((i + (j + 1) / len(losses)) / len(batches))
    all_averaged, *_, intact = losses.tolist()
    growth = (losses[1:-1] - intact).view(n_layer, n_head, 2)
    return Ranking(intact, all_averaged, excerpt.bigram, growth[..., 0].tolist(), growth[..., 1].tolist())


def _losses(model: AttentionModel, idx: Tensor, targets: Tensor) -> Iterator[float]:
    """The loss with all heads averaged; with each head in turn silenced, then averaged; of the intact model.

    What lies below a changed layer is computed once.
    """
    T = idx.shape[1]
    cos, sin = model.cos[:T], model.sin[:T]

    def loss(x: Tensor, layer: int) -> float:
        value = cross_entropy(resume(model, x, layer), targets)
        assert value is not None
        return value.item()

    layers: list[Any] = list(model.layers)
    x = model.embedding(idx)
    for number, layer in enumerate(layers, start=1):
        x = _edited(layer, [e for e in all_average(model) if e.layer == number])(x, cos, sin)
    yield loss(x, len(layers))
    x = model.embedding(idx)
    for number, layer in enumerate(layers, start=1):
        for head in range(1, model.config.n_head + 1):
            for edit in (ScaleHead(number, head, 0), AverageHead(number, head)):
                yield loss(_edited(layer, [edit])(x, cos, sin), number)
        x = layer(x, cos, sin)
    yield loss(x, len(layers))


def _edited(layer: nn.Module, edits: Iterable[Edit]) -> nn.Module:
    """A copy of `layer` with edits of it."""
    layer = copy.deepcopy(layer)
    for edit in edits:
        edit.apply(layer)
    return layer
