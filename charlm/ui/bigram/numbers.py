"""The bigram table beside the counts that it ought to have learned."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from charlm.engine.sampling import next_char_probs
from charlm.errors import CharlmError
from charlm.models import BigramLanguageModel
from charlm.ui.encoding import base64_of

LINES = """\
learned = model.token_embedding_table.weight.softmax(dim=1)

counts = torch.zeros(vocab_size, vocab_size)
for a, b in zip(ids[:-1], ids[1:]):
    counts[a, b] += 1
counted = counts / counts.sum(dim=1, keepdim=True)

next_char = (model.token_embedding_table.weight[i] / temperature).softmax(dim=0)
"""

TITLES = {
    "learned": "Learned by AdamW",
    "counted": "Counted in the corpus",
    "difference": "Learned minus counted",
}
"""The tables that are shown, and their titles."""


def tables(model: BigramLanguageModel) -> tuple[Tensor, Tensor]:
    """The learned probabilities and the counted frequencies, each (vocab_size, vocab_size) float64.

    Row: the character before; column: the one after. Raises `CharlmError` if the checkpoint has no
    counts.
    """
    if "bigram_counts" not in model.record:
        raise CharlmError("This bigram model came without the counts of its corpus.")
    counts = torch.tensor(model.record["bigram_counts"], dtype=torch.float64)
    return model.probabilities().double(), counts / counts.sum(dim=1, keepdim=True).clamp(min=1)


def tables_value(model: BigramLanguageModel) -> dict[str, Any]:
    """What the page draws of the `tables` and of their difference: the characters that rows and columns
    stand for, and the (vocab_size, vocab_size) float32 numbers of each table, row by row, in base64."""
    learned, counted = tables(model)
    shown = {"learned": learned, "counted": counted, "difference": learned - counted}
    return {
        "chars": list(model.tokenizer.vocab),
        "tables": [
            {"name": name, "title": TITLES[name], "values": base64_of(table.float())}
            for name, table in shown.items()
        ],
    }


def losses(model: BigramLanguageModel) -> dict[str, float]:
    """Validation losses in nats per character: knowing nothing, having learned, having counted."""
    return {
        "uniform": math.log(model.config.vocab_size),
        "learned": model.record["val_loss"],
        "counted": model.record["counted_bigram_loss"],
    }


@torch.no_grad()
def next_chars(model: BigramLanguageModel, char: str, temperature: float) -> list[dict[str, Any]]:
    """What follows `char`: every character with its learned probability at `temperature` and its
    counted frequency, the likeliest first. Raises `CharlmError` for an unknown character."""
    if len(char) != 1:
        raise CharlmError(f"Give one character, not {char!r:.100}.")
    (i,) = model.tokenizer.encode(char)
    probs = next_char_probs(model.token_embedding_table.weight[i], temperature)
    counted = tables(model)[1][i]
    rows = zip(model.tokenizer.vocab, probs.tolist(), counted.tolist(), strict=True)
    ordered = sorted(rows, key=lambda row: -row[1])
    return [{"char": c, "prob": p, "counted": q} for c, p, q in ordered]
