"""How good is a model: its mean loss over a whole split, and the best a bigram table could do."""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor

from charlm.errors import CharlmError
from charlm.models import LanguageModel

BLOCKS_AT_ONCE = 32


@torch.no_grad()
def evaluate(model: LanguageModel, data: Tensor, seconds: float = math.inf) -> float:
    """The mean loss in nats per character over `data`, 1-D ids; over the beginning of it if the whole takes
    longer than `seconds`.

    The text is cut into consecutive blocks of `block_size`, the last one possibly shorter; every
    character but the first is predicted exactly once. Raises `CharlmError` for fewer than two.
    """
    if len(data) < 2:
        raise CharlmError("A loss needs at least two characters: one to look at and one to predict.")
    batches = _blocks(data.to(model.device), model.config.block_size)
    training = model.training
    model.eval()
    end = time.monotonic() + seconds
    total, chars = 0.0, 0
    for xb, yb in batches:
        total += model(xb, yb)[1].double().item() * xb.numel()
        chars += xb.numel()
        if time.monotonic() > end:
            break
    model.train(training)
    return total / chars


@torch.no_grad()
def logits_of(model: LanguageModel, data: Tensor) -> Tensor:
    """The logits (n - 1, vocab_size) from which `evaluate` takes the loss of each of the n ids in `data` but
    the first. The model must be in eval mode."""
    blocks = _blocks(data.to(model.device), model.config.block_size)
    return torch.cat([model(x)[0].flatten(0, 1) for x, _ in blocks]).cpu()


def _blocks(data: Tensor, T: int) -> list[tuple[Tensor, Tensor]]:
    """Batches of consecutive blocks `x`, each (B, T), and the same shifted by one, `y`; the last block may be
    shorter."""
    data = data.long()
    x, y = data[:-1], data[1:]
    n = len(x) // T
    xs, ys = x[: n * T].view(n, T).split(BLOCKS_AT_ONCE), y[: n * T].view(n, T).split(BLOCKS_AT_ONCE)
    batches = [batch for batch in zip(xs, ys, strict=True) if len(batch[0])]
    if n * T < len(x):
        batches.append((x[None, n * T :], y[None, n * T :]))
    return batches


def bigram_counts(data: Tensor, vocab_size: int) -> Tensor:
    """(vocab_size, vocab_size) float64: how often each character (row) is followed by each other."""
    pairs = data[:-1] * vocab_size + data[1:]
    return torch.bincount(pairs, minlength=vocab_size**2).view(vocab_size, vocab_size).double()


def counted_bigram_loss(counts: Tensor, data: Tensor) -> float:
    """The loss on `data` (1-D ids) of the frequencies in `counts`, in nats per character.

    With the counts of `data` itself it is the least that any bigram table could reach there. One
    added to the counts of another text makes a pair it lacks unlikely instead of impossible
    (Laplace).
    """
    probs = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
    seen = bigram_counts(data, len(counts))
    return -torch.special.xlogy(seen, probs).sum().item() / seen.sum().item()
