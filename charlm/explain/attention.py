"""Which character looks at which: every layer and head of a trained model on a text."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from charlm.errors import CharlmError
from charlm.explain import one_thread
from charlm.models import AttentionLanguageModel, LanguageModel

MAX_TEXT_CHARS = 10_000
"""The longest text a page may send; the end of it is what a model reads."""

LINES = """\
idx = torch.tensor([model.tokenizer.encode(text)])
weights, scores = model.attention(idx)       # (n_layer, B, n_head, T, T) each

# inside, for each head:
scores = q @ k.transpose(-2, -1) / head_size**0.5
masked = scores.masked_fill(tril == 0, float("-inf"))
weights = masked.softmax(dim=-1)
"""


@dataclass(frozen=True)
class AttentionMaps:
    """`weights` and raw `scores` of every head, (n_layer, n_head, T, T), for the characters `text`.

    `notes` say what had to be changed for the text to be shown.
    """

    text: str
    weights: Tensor
    scores: Tensor
    notes: list[str]


@one_thread()
def explain(model: LanguageModel, text: str) -> AttentionMaps:
    """The attention of `model` over the end of `text`, at most block_size characters.

    Raises `CharlmError` for a model without attention, or a text of which nothing can be shown.
    """
    if not isinstance(model, AttentionLanguageModel):
        raise CharlmError("This model has no attention: it looks at one character only.")
    text, notes = readable(model, text)
    weights, scores = model.attention(torch.tensor([model.tokenizer.encode(text)]))
    return AttentionMaps(text, weights[:, 0], scores[:, 0], notes)


def readable(model: LanguageModel, text: str) -> tuple[str, list[str]]:
    """The end of `text` that `model` can read at once, and notes on what was left out.

    Raises `CharlmError` if nothing is left.
    """
    notes = []
    unknown = model.tokenizer.unknown(text)
    if unknown:
        notes.append(f"Left out, because the model does not know them: {' '.join(map(ascii, unknown[:20]))}.")
        text = model.tokenizer.replace_unknown(text)
    limit = model.config.block_size
    if len(text) > limit:
        notes.append(f"The text has {len(text):,} characters: the model reads the last {limit}.")
        text = text[-limit:]
    if not text:
        raise CharlmError(
            "There is nothing to look at yet: type at least one character that the model knows."
        )
    return text, notes
