"""Two texts of one length: where in the model is what makes the one go on unlike the other? No Gradio."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from charlm.errors import CharlmError
from charlm.models import LanguageModel
from charlm.models.trace import AttentionModel
from charlm.surgery.edits import attentive
from charlm.surgery.patching import patch, patch_cell
from charlm.ui.inside.numbers import distributions, layer_name

MOST_COMPARED = 32
"""How many characters two texts may have that are compared: each is patched after every layer."""


@torch.no_grad()
def compare(model: LanguageModel, first: str, second: str) -> dict[str, Any]:
    """Where a model knows what makes it continue `first` unlike `second`: for each of the `rows`, after the
    embedding and after each layer, how much of the second's prediction is `returned` when the channels at one
    position are those of the second text; `measured`, the two characters by which that is told, with their
    probabilities after both texts; the `route`; and the cell to begin with.

    Raises `CharlmError` for a model that looks at one character only, and texts that cannot be compared.
    """
    attention, ids = _pair(model, first, second)
    result = patch(attention, ids[0], ids[1])
    probs = attention(ids)[0][:, -1].softmax(1)
    layer = len(attention.layers) // 2
    name = layer_name(attention)
    return {
        "first": first,
        "second": second,
        "rows": ["the embedding", *(f"{name} {i + 1}" for i in range(len(attention.layers)))],
        "returned": result.returned.tolist(),
        "measured": [
            {"char": model.tokenizer.vocab[i], "ps": probs[:, i].tolist()}
            for i in (result.first_id, result.second_id)
        ],
        "route": route(result.returned.argmax(1).tolist()),
        "cell": compare_cell(model, first, second, layer, int(result.returned[layer].argmax())),
    }


def compare_cell(model: LanguageModel, first: str, second: str, layer: int, position: int) -> dict[str, Any]:
    """The guess after `first`, after `second`, and after `first` with the channels of `second` at `position`
    after `layer` layers, as `distributions`. Raises `CharlmError` as `compare`, or if there is no such
    cell."""
    attention, ids = _pair(model, first, second)
    probs = patch_cell(attention, ids[0], ids[1], layer, position)
    return {"layer": layer, "position": position, "bars": distributions(model, *probs)}


def route(positions: Iterable[int]) -> list[dict[str, int]]:
    """The `position` with the most in each row of a table, rows in which it is the same taken together:
    `begin` to `end`."""
    found = []
    for position, rows in groupby(enumerate(positions), key=lambda row: row[1]):
        numbers = [i for i, _ in rows]
        found.append({"position": position, "begin": numbers[0], "end": numbers[-1]})
    return found


def _pair(model: LanguageModel, first: str, second: str) -> tuple[AttentionModel, Tensor]:
    """`model`, which must look back, and the ids (2, T) of two texts of one length."""
    attention = attentive(model)
    if len(first) != len(second):
        raise CharlmError(
            f"The texts must be of one length, so that each character has its counterpart: the first has "
            f"{len(first)}, the second {len(second)}."
        )
    if not first:
        raise CharlmError("Write two texts of one length that the model goes on with differently.")
    most = min(MOST_COMPARED, attention.config.block_size)
    if len(first) > most:
        raise CharlmError(f"Texts of up to {most} characters are compared: these have {len(first):,}.")
    return attention, torch.tensor([model.tokenizer.encode(text) for text in (first, second)])


def section(model: LanguageModel) -> dict[str, Any]:
    """Empty, or `why` texts cannot be compared in `model`."""
    try:
        attentive(model)
    except CharlmError as error:
        return {"why": str(error)}
    return {}
