"""What each head is worth: how much the loss grows without it (Michel et al., 2019, "Are Sixteen Heads Really
Better than One?")."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from charlm.corpus import Corpus
from charlm.errors import CharlmError
from charlm.models import LanguageModel
from charlm.models.base import cross_entropy
from charlm.models.trace import AttentionModel, resume
from charlm.surgery.edits import AverageHead, Edit, ScaleHead, all_average, attentive
from charlm.training.evaluation import bigram_counts

BLOCKS = 24
"""How many blocks of text are read."""
CHARS_AT_ONCE = 4096
"""How many characters are computed together, which bounds the memory."""


@dataclass(frozen=True)
class Ranking:
    """Losses on one excerpt, in nats per character."""

    loss: float
    """Of the model as it was learned."""
    all_averaged: float
    """With every head a plain average."""
    bigram: float
    """Of the pairs of characters counted in the training split, one added to each."""
    silent: list[list[float]]
    """By how much the loss grows if one head is silenced, by layer and head."""
    average: list[list[float]]
    """By how much the loss grows if one head is made a plain average, by layer and head."""


def excerpt(data: Tensor, block_size: int) -> tuple[Tensor, Tensor]:
    """The beginnings of `BLOCKS` equal parts of `data`, 1-D ids, and the same shifted by one: (B, T) each;
    fewer parts where the blocks would overlap.

    Raises `CharlmError` if `data` is shorter than a block and its target.
    """
    blocks = min(BLOCKS, (len(data) - 1) // block_size)
    if blocks < 1:
        raise CharlmError(
            f"A block and its target need {block_size + 1} characters: this text has {len(data)}."
        )
    starts = torch.arange(blocks) * ((len(data) - 1) // blocks)
    chunks = data[starts[:, None] + torch.arange(block_size + 1)]
    return chunks[:, :-1], chunks[:, 1:]


@torch.no_grad()
def rank(model: LanguageModel, corpus: Corpus, progress: Callable[[float], None]) -> Ranking:
    """What each head of `model`, in eval mode, is worth on the `excerpt` of the validation split of `corpus`.

    `progress` is told how much is done, from 0 to 1; what it raises ends the work. Raises `CharlmError` for a
    model without heads, or a corpus that is too short or has characters that the model does not know.
    """
    model = attentive(model)
    n_layer, n_head = model.config.n_layer, model.config.n_head
    train, val = corpus.split(model.tokenizer)
    x, y = excerpt(val, model.config.block_size)
    rows = max(1, CHARS_AT_ONCE // x.shape[1])
    batches = list(zip(x.split(rows), y.split(rows), strict=True))
    losses = torch.zeros(2 * n_layer * n_head + 2, dtype=torch.float64)
    for i, (xb, yb) in enumerate(batches):
        for j, loss in enumerate(_losses(model, xb.to(model.device), yb.to(model.device))):
            losses[j] += loss * len(xb) / len(x)
            progress((i + (j + 1) / len(losses)) / len(batches))
    all_averaged, *_, intact = losses.tolist()
    growth = (losses[1:-1] - intact).view(n_layer, n_head, 2)
    bigram = _bigram_loss(train, x, y, model.config.vocab_size)
    return Ranking(intact, all_averaged, bigram, growth[..., 0].tolist(), growth[..., 1].tolist())


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


def _bigram_loss(train: Tensor, x: Tensor, y: Tensor, vocab_size: int) -> float:
    counts = bigram_counts(train, vocab_size) + 1
    return -(counts / counts.sum(1, keepdim=True)).log()[x, y].mean().item()
