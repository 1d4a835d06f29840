"""How good is a model: its mean loss over a whole split, and the best a bigram table could do."""

from __future__ import annotations

import torch
from torch import Tensor

from charlm.errors import CharlmError
from charlm.models import LanguageModel

BLOCKS_AT_ONCE = 32


@torch.no_grad()
def evaluate(model: LanguageModel, data: Tensor) -> float:
    """The mean loss in nats per character over `data`, 1-D ids.

    The text is cut into consecutive blocks of `block_size`, the last one possibly shorter; every
    character but the first is predicted exactly once. Raises `CharlmError` for fewer than two.
    """
    if len(data) < 2:
        raise CharlmError("A loss needs at least two characters: one to look at and one to predict.")
    T = model.config.block_size
    x, y = data[:-1], data[1:]
    whole = len(x) // T * T
    batches = list(
        zip(x[:whole].view(-1, T).split(BLOCKS_AT_ONCE), y[:whole].view(-1, T).split(BLOCKS_AT_ONCE))
    )
    if whole < len(x):
        batches.append((x[whole:][None], y[whole:][None]))

    training = model.training
    model.eval()
    total = sum(model(xb, yb)[1].double().item() * xb.numel() for xb, yb in batches)
    model.train(training)
    return total / len(x)


def bigram_counts(data: Tensor, vocab_size: int) -> Tensor:
    """(vocab_size, vocab_size) float64: how often each character (row) is followed by each other."""
    pairs = data[:-1] * vocab_size + data[1:]
    return torch.bincount(pairs, minlength=vocab_size**2).view(vocab_size, vocab_size).double()


def counted_bigram_loss(train: Tensor, data: Tensor, vocab_size: int, smoothing: float = 0.0) -> float:
    """The loss on `data` of the table of frequencies counted in `train`, in nats per character.

    With `train` = `data` it is the least that any bigram table could reach there. `smoothing` is
    added to each count, so that a pair never seen is unlikely instead of impossible.
    """
    probs = bigram_counts(train, vocab_size) + smoothing
    probs /= probs.sum(dim=1, keepdim=True).clamp(min=1e-9)
    counts = bigram_counts(data, vocab_size)
    return -torch.special.xlogy(counts, probs).sum().item() / counts.sum().item()
