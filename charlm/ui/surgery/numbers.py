"""What is changed of a model, in words, and what that does to a text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from charlm.models import LanguageModel
from charlm.models.trace import AttentionModel
from charlm.surgery.edits import (
    AverageHead,
    Edit,
    ScaleHead,
    SwitchAttention,
    SwitchMLP,
    SwitchNeuron,
    merge,
    parse,
)
from charlm.surgery.operate import edits_of
from charlm.training.evaluation import logits_of
from charlm.ui.texts import readable

LEARNED = "Everything as it was learned."
MOST_NAMED = 3
"""How many parts of a kind are named one by one."""


def describe(model: LanguageModel, before: str, edits: str) -> dict[str, Any]:
    """What the switches show of `model`, chosen with the edits `before`, once it has `edits`, too: its sizes,
    whether its layers have an `mlp`, the settings of parts by which it was `made`, all `settings` that it has
    now, and a `sentence` on them. Empty for a model without heads.

    Raises `CharlmError` for text that is no edits, or edits of parts that it lacks.
    """
    if not isinstance(model, AttentionModel):
        return {}
    made = merge((*edits_of(model), *parse(before)))
    wanted = parse(edits)
    for edit in (*made, *wanted):
        edit.check(model)
    now = merge((*made, *wanted))
    return {
        "n_layer": model.config.n_layer,
        "n_head": model.config.n_head,
        "mlp": model.config.parts.mlp != "none",
        "made": {edit.part: edit.setting for edit in made},
        "settings": {edit.part: edit.setting for edit in now},
        "sentence": sentence(now, model.config.n_layer * model.config.n_head) or LEARNED,
    }


def settings(model: LanguageModel) -> dict[str, str]:
    """By part, what became of it by the edits that `model` was made with."""
    return {edit.part: edit.setting for edit in edits_of(model)}


def sentence(edits: Iterable[Edit], heads: int) -> str:
    """What `edits` change of a model with that many `heads`; empty if they are none."""
    words = _listed(list(_phrases(edits, heads)))
    return f"{words[0].upper()}{words[1:]}." if words else ""


def _phrases(edits: Iterable[Edit], heads: int) -> Iterable[str]:
    """A phrase for each kind of change, in a fixed order."""
    groups: dict[tuple[int, float], list[Any]] = {}
    for edit in edits:
        groups.setdefault(_kind(edit), []).append(edit)
    for (kind, factor), group in sorted(groups.items()):
        yield PHRASES[kind](group, heads) + (f" ×{factor:g}" if factor else "")


def _kind(edit: Edit) -> tuple[int, float]:
    """Which of `PHRASES` tells of an edit, and the factor behind it, if there is one."""
    if isinstance(edit, ScaleHead):
        return (1, edit.factor) if edit.factor else (2, 0)
    return {AverageHead: 0, SwitchAttention: 3, SwitchMLP: 4, SwitchNeuron: 5}[type(edit)], 0


def _heads(edits: Sequence[Any], heads: int) -> str:
    if len(edits) == heads > 1:
        return f"all {heads} heads"
    return _named("head", [f"{edit.layer}·{edit.head}" for edit in edits])


def _layers(noun: str) -> Callable[[Sequence[Any], int], str]:
    return lambda edits, _: f"without {_named(noun, [str(edit.layer) for edit in edits])}"


def _neurons(edits: Sequence[Any], _: int) -> str:
    return f"without {_named('neuron', [f'{edit.neuron} of MLP {edit.layer}' for edit in edits])}"


PHRASES: tuple[Callable[[Sequence[Any], int], str], ...] = (
    lambda edits, heads: f"with {_heads(edits, heads)} averaged",
    lambda edits, heads: f"with {_heads(edits, heads)}",
    lambda edits, heads: f"without {_heads(edits, heads)}",
    _layers("attention in layer"),
    _layers("MLP"),
    _neurons,
)


def _named(noun: str, numbers: Sequence[str]) -> str:
    """“head 5·4”, “heads 5·4 and 5·3” or “7 heads”."""
    if len(numbers) == 1:
        return f"{noun} {numbers[0]}"
    if len(numbers) <= MOST_NAMED:
        return f"{noun}s {_listed(numbers)}"
    before, _, last = noun.rpartition(" ")
    return f"{before} {len(numbers)} {last}s".strip()


def _listed(words: Sequence[str]) -> str:
    return " and ".join([part for part in (", ".join(words[:-1]), *words[-1:]) if part])


def effect(original: LanguageModel, changed: LanguageModel, text: str) -> dict[str, Any]:
    """The end of `text` that both models read, and for each of its characters but the first its loss in nats
    with either: `before` and `after`.

    Raises `CharlmError` if nothing of the text can be read.
    """
    text, _ = readable(original, text)
    ids = torch.tensor(original.tokenizer.encode(text))
    return {
        "text": text,
        "before": _losses(original, ids).tolist(),
        "after": _losses(changed, ids).tolist(),
    }


def _losses(model: LanguageModel, ids: Tensor) -> Tensor:
    """-ln p (n - 1,) of each of `ids` (n,) but the first."""
    if len(ids) < 2:
        return torch.zeros(0)
    return -logits_of(model, ids).log_softmax(-1).gather(1, ids[1:, None])[:, 0]
