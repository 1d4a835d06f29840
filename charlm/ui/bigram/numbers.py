"""The bigram table beside the counts that it ought to have learned, and what it writes."""

from __future__ import annotations

import math
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from charlm.engine.sampling import next_char_probs, stream
from charlm.errors import CharlmError
from charlm.models import BigramLanguageModel
from charlm.ui.encoding import base64_of

LINES = """\
learned = model.token_embedding_table.weight.softmax(dim=1)

counts = torch.zeros(vocab_size, vocab_size)
for a, b in zip(train[:-1], train[1:]):
    counts[a, b] += 1
counted = counts / counts.sum(dim=1, keepdim=True)

# No pair of the validation split may have probability 0: one is added to each count.
added = (counts + 1) / (counts + 1).sum(dim=1, keepdim=True)
val_loss = -added[val[:-1], val[1:]].log().mean()

def next_char(i):
    return (model.token_embedding_table.weight[i] / temperature).softmax(dim=0)

written = [i]
for _ in range(20):
    written.append(torch.multinomial(next_char(written[-1]), 1).item())
"""

FIRST_CHAR = "t"
MAX_SHOWN = 100
"""How many characters the grid has room for."""
SHOWN_NEXT = 12
"""How many of what may come next have a bar of their own."""
WRITTEN_CHARS = 20


_counts: WeakKeyDictionary[BigramLanguageModel, Tensor] = WeakKeyDictionary()
"""Read once a model: a million counts take a fifth of a second, at every move of a slider."""


def counts_of(model: BigramLanguageModel) -> Tensor:
    """How often each character (row) is followed by each other in the training split: (vocab_size,
    vocab_size) float64. Raises `CharlmError` if the checkpoint does not tell."""
    if model not in _counts:
        _counts[model] = _read_counts(model)
    return _counts[model]


def _read_counts(model: BigramLanguageModel) -> Tensor:
    V = model.config.vocab_size
    try:
        counts = torch.tensor(model.record["bigram_counts"], dtype=torch.float64)
    except (KeyError, TypeError, ValueError, RuntimeError):
        counts = torch.empty(0)
    if counts.shape != (V, V) or not (counts.isfinite() & (counts >= 0)).all():
        raise CharlmError(
            "This bigram model came without the counts of its text: there is nothing to compare it with."
        )
    return counts


def tables(model: BigramLanguageModel) -> tuple[Tensor, Tensor]:
    """The learned probabilities and the counted frequencies, each (vocab_size, vocab_size) float64.

    Row: a character; column: the next one. Raises `CharlmError` if the checkpoint has no counts.
    """
    return model.probabilities().double(), _shares(counts_of(model))


def _shares(counts: Tensor) -> Tensor:
    return counts / counts.sum(dim=-1, keepdim=True).clamp(min=1)


def tables_value(model: BigramLanguageModel) -> dict[str, Any]:
    """What the page draws of the tables: for the characters that the grid has room for, the commonest, the
    logits (float32), the counts (float64) and the probabilities (float32), row by row in base64.

    For each row also `log_sums`, the logarithm of the sum of e^logit, and `seen`, the sum of the counts, both
    over all characters; of all counts, how many are `zeros`.
    """
    logits, counts = model.token_embedding_table.weight.detach().double(), counts_of(model)
    seen = counts.sum(dim=1)
    shown = seen.argsort(descending=True, stable=True)[:MAX_SHOWN].sort().values

    def part(table: Tensor) -> Tensor:
        return table[shown][:, shown]

    return {
        "chars": [model.tokenizer.vocab[i] for i in shown.tolist()],
        "vocab_size": model.config.vocab_size,
        "logits": base64_of(part(logits).float()),
        "learned": base64_of(part(model.probabilities()).float()),
        "counts": base64_of(part(counts)),
        "log_sums": logits[shown].logsumexp(dim=1).tolist(),
        "seen": seen[shown].tolist(),
        "zeros": int((counts == 0).sum()),
    }


def losses(model: BigramLanguageModel) -> dict[str, float]:
    """Losses on the validation split in nats per character: of knowing nothing, of the learned table, and of
    the counts of the training split, one added to each. What the checkpoint does not tell is left out."""
    found = {"uniform": math.log(model.config.vocab_size)}
    for name, key in (("learned", "val_loss"), ("counted", "counted_bigram_loss")):
        loss = model.record.get(key)
        if isinstance(loss, float) and 0 < loss < math.inf:
            found[name] = loss
    return found


@torch.no_grad()
def training_losses(model: BigramLanguageModel) -> dict[str, float]:
    """Losses on the training split in nats per character: of the learned table, and of the counts, which no
    bigram table can beat there. Raises `CharlmError` if the checkpoint has no counts."""
    counts = counts_of(model)
    n = counts.sum().clamp(min=1)
    log_probs = model.token_embedding_table.weight.double().log_softmax(dim=1)
    return {
        "learned": (-(counts * log_probs).sum() / n).item(),
        "counted": (-torch.special.xlogy(counts, _shares(counts)).sum() / n).item(),
    }


def losses_value(model: BigramLanguageModel) -> dict[str, Any]:
    """What the page says of how good the tables are. Raises `CharlmError` if the checkpoint has no counts."""
    counts = counts_of(model)
    return {
        "vocab_size": model.config.vocab_size,
        "validation": losses(model),
        "training": training_losses(model),
        "cells": counts.numel(),
        "zeros": int((counts == 0).sum()),
    }


def first_char(model: BigramLanguageModel, wanted: str | None) -> str:
    """The character to begin with: the `wanted` one, t, or the commonest, whichever the model knows first."""
    known = [char for char in (wanted, FIRST_CHAR) if char and char in model.tokenizer.vocab]
    return known[0] if known else model.tokenizer.vocab[int(counts_of(model).sum(dim=1).argmax())]


@torch.no_grad()
def next_chars(model: BigramLanguageModel, char: str, temperature: float) -> list[dict[str, Any]]:
    """What follows `char`: every character with its logit, its learned probability at `temperature`, its
    count and its counted frequency, the likeliest first. Raises `CharlmError` for an unknown character."""
    i = _id_of(model, char)
    logits, counts = model.token_embedding_table.weight[i], counts_of(model)[i]
    probs = next_char_probs(logits, temperature)
    columns = (
        model.tokenizer.vocab,
        logits.tolist(),
        probs.tolist(),
        counts.tolist(),
        _shares(counts).tolist(),
    )
    names = ("char", "logit", "prob", "count", "counted")
    rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    return sorted(rows, key=lambda row: -row["prob"])


def following_value(model: BigramLanguageModel, char: str, temperature: float) -> dict[str, Any]:
    """What the page draws of `next_chars`: the likeliest rows, how many `more` there are and the `rest` they
    share; how often `char` was `seen` before another; and `log_sum`, the logarithm of the sum of
    e^(logit/temperature), None if temperature 0 leaves no such sum.

    Raises `CharlmError` for an unknown character.
    """
    rows = next_chars(model, char, temperature)
    logits = torch.tensor([row["logit"] for row in rows], dtype=torch.float64)
    log_sum = (logits / temperature).logsumexp(dim=0).item() if temperature else math.inf
    return {
        "char": char,
        "temperature": temperature,
        "log_sum": log_sum if math.isfinite(log_sum) else None,
        "seen": sum(row["count"] for row in rows),
        "rows": rows[:SHOWN_NEXT],
        "more": len(rows[SHOWN_NEXT:]),
        "rest": sum(row["prob"] for row in rows[SHOWN_NEXT:]),
    }


def write(
    model: BigramLanguageModel, char: str, temperature: float, seed: int | None = None
) -> dict[str, Any]:
    """Walks the table from `char` on: for each step the character it stands on, `before`, the one drawn, its
    probability in that row at `temperature`, and the random number that chose it.

    Raises `CharlmError` for an unknown character.
    """
    _id_of(model, char)
    steps: list[dict[str, Any]] = []
    drawn = stream(model, char, max_new_chars=WRITTEN_CHARS, temperature=temperature, seed=seed)
    for step in drawn:
        steps.append({"before": char, "char": step.char, "prob": step.prob, "uniform": step.uniform})
        char = step.char
    return {"temperature": temperature, "steps": steps}


def _id_of(model: BigramLanguageModel, char: str) -> int:
    if len(char) != 1:
        raise CharlmError(f"Give one character, not {char!r:.100}.")
    (i,) = model.tokenizer.encode(char)
    return i
