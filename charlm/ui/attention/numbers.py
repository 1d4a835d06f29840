"""Which character looks at which: every layer and head of a trained model on a text."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from charlm.errors import CharlmError
from charlm.models import LanguageModel
from charlm.models.trace import AttentionModel, trace
from charlm.ui.encoding import base64_of
from charlm.ui.texts import readable

TILE_SIZE = 48
AVERAGE = -1
"""The layer that stands for the average of all heads."""

LINES = """\
idx = torch.tensor([model.tokenizer.encode(text)])
weights = trace(model, idx).weights          # (n_layer, B, n_head, T, T)

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

    def check_head(self, layer: int, head: int) -> None:
        """Raises `CharlmError` for a head that the model lacks."""
        n_layer, n_head = self.weights.shape[:2]
        if not (0 <= layer < n_layer and 0 <= head < n_head):
            raise CharlmError(
                f"The model has layers 0 to {n_layer - 1} and heads 0 to {n_head - 1}, "
                f"and no head {head} in layer {layer}."
            )


def explain(model: LanguageModel, text: str) -> AttentionMaps:
    """The attention of `model` over the end of `text`, at most block_size characters.

    Raises `CharlmError` for a model without attention, or a text of which nothing can be shown.
    """
    if not isinstance(model, AttentionModel):
        raise CharlmError("This model has no attention: it looks at one character only.")
    text, notes = readable(model, text)
    traced = trace(model, torch.tensor([model.tokenizer.encode(text)]))
    return AttentionMaps(text, traced.weights[:, 0], traced.scores[:, 0], notes)


def overview(name: str, maps: AttentionMaps) -> dict[str, Any]:
    """What the page draws at first: a small picture of every head, as bytes from 0 to 255."""
    n_layer, n_head, T, _ = maps.weights.shape
    everything = torch.cat((maps.weights.mean((0, 1))[None], maps.weights.flatten(0, 1)))
    if T > TILE_SIZE:
        # A tile shows the largest weight of each patch: an average would hide a thin line.
        everything = torch.nn.functional.adaptive_max_pool2d(everything, TILE_SIZE)
    return {
        "id": secrets.token_hex(8),
        "model": name,
        "text": maps.text,
        "n_layer": n_layer,
        "n_head": n_head,
        "tile_size": everything.shape[-1],
        "tiles": [base64_of((255 * tile).round().to(torch.uint8)) for tile in everything],
    }


def one_head(maps: AttentionMaps, layer: int, head: int) -> dict[str, str | None]:
    """The (T, T) float32 weights and raw scores of a head. The layer `AVERAGE` is the average of all
    heads, which has no scores.

    Raises `CharlmError` for a head that the model lacks.
    """
    if layer == AVERAGE:
        return {"weights": base64_of(maps.weights.mean((0, 1))), "scores": None}
    maps.check_head(layer, head)
    return {
        "weights": base64_of(maps.weights[layer, head]),
        "scores": base64_of(maps.scores[layer, head]),
    }


def compact(maps: AttentionMaps, layer: int, head: int) -> dict[str, Any]:
    """A head's maps for programs: the characters `text`, and `weights` and `scores` as (T, T) float16
    numbers, row by row and each with its low byte first, in base64.

    Raises `CharlmError` for a head that the model lacks.
    """
    maps.check_head(layer, head)
    T = len(maps.text)
    weights, scores = maps.weights[layer, head].half(), maps.scores[layer, head].half()
    return {
        "text": maps.text,
        "shape": [T, T],
        "dtype": "<f2",
        "weights": base64_of(weights),
        "scores": base64_of(scores),
    }
