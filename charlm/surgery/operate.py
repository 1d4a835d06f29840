"""A model with some of its parts changed, as a model of its own."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

import torch

from charlm import checkpoints
from charlm.errors import CharlmError
from charlm.models import LanguageModel
from charlm.surgery.edits import Edit, attentive, check_count, merge, parse, text_of

RECIPE = "surgery"
"""Where the record of a changed model says what it was made from, and how."""
MEASURED = ("train_loss", "val_loss", "curve")
"""What is known of an original alone."""
_ORIGINALS: WeakKeyDictionary[LanguageModel, LanguageModel] = WeakKeyDictionary()
"""What each changed model was made from, as long as it is in memory."""


def operate(model: LanguageModel, edits: Iterable[Edit] | str) -> LanguageModel:
    """A copy of `model` with `edits`, or what `parse` reads as some, written into its weights; `model` itself
    stays as it is. The copy writes, is saved and is loaded like any other model.

    The edits of a model that was changed before stay, and all are applied to the original anew: a later edit
    of the same part replaces an earlier one, and one that says “learned” or “on” takes it back to the bit.
    The recipe is kept in the copy's `record`. Raises `CharlmError` for a part that the model lacks, more than
    `MAX_EDITS` edits, or a changed model whose original is not at hand.
    """
    edits = parse(edits) if isinstance(edits, str) else tuple(edits)
    source = original(model)
    for edit in edits:
        edit.check(attentive(source))
    edits = merge((*edits_of(model), *edits))
    check_count(edits)
    changed = copy.deepcopy(source)
    if not edits:
        return changed
    layers: Any = changed.layers
    with torch.no_grad():
        for edit in edits:
            edit.apply(layers[edit.layer - 1])
    record = {key: value for key, value in _record(source).items() if key not in MEASURED}
    recipe = {"edits": text_of(edits), "weights_sha256": checkpoints.weights_sha256(source)}
    changed.record = record | {RECIPE: recipe}
    _ORIGINALS[changed] = source
    return changed


def edits_of(model: LanguageModel) -> tuple[Edit, ...]:
    """The edits by which `model` was made; none if it is an original.

    Raises `CharlmError` if its record is not what `operate` writes.
    """
    recipe = _record(model).get(RECIPE, {"edits": ""})
    if not isinstance(recipe, dict) or not isinstance(recipe.get("edits"), str):
        raise CharlmError("This model's record does not say how it was changed.")
    return parse(recipe["edits"])


def original(model: LanguageModel) -> LanguageModel:
    """What `model` was made from by `operate`; `model` itself if it was not.

    After loading, the original is looked for among the checkpoints that come with charlm. Raises
    `CharlmError` if it is none of them.
    """
    if not edits_of(model):
        return model
    if model in _ORIGINALS:
        return _ORIGINALS[model]
    name = original_name(model.record)
    if name is not None:
        return checkpoints.load(name)
    raise CharlmError(
        f"This model was changed before ({text_of(edits_of(model))}), and the one that it was made from is "
        "not at hand: change that one instead."
    )


def original_name(record: dict[str, Any]) -> str | None:
    """The checkpoint that comes with charlm of which the model with this `record` was made by `operate`; None
    if it is none of them."""
    recipe = record.get(RECIPE)
    if not isinstance(recipe, dict) or not isinstance(recipe.get("edits"), str):
        return None
    for name in checkpoints.names():
        with suppress(CharlmError):  # One that cannot be read is no original.
            described = checkpoints.read_description(checkpoints.find(name))
            if described["weights_sha256"] == recipe.get("weights_sha256"):
                return name
    return None


def _record(model: LanguageModel) -> dict[str, Any]:
    """A model that was just built has none."""
    return getattr(model, "record", {})
