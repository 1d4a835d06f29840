"""Edits of one text's run through a model, which no weights could express: for views.

They are forward hooks on a copy that shares its weights with the model, which stays as it is for all others.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from charlm.errors import CharlmError, check_range
from charlm.models.trace import AttentionModel, Trace, attention_of, trace
from charlm.surgery.edits import SwitchNeuron, check_number, mlp_of

M = TypeVar("M", bound=nn.Module)
ROUNDING = 1e-6
"""By how much weights that sum to 1 may miss it."""


@dataclass(frozen=True)
class AttentionCell:
    """Sets the `weight` with which a head, for the character at position `row`, takes the one at `column`.

    The other cells of the row that the character can see share the rest, in proportion to the weights that
    they had, or equally if they had none. Layer and head are numbered from 1, positions from 0. Raises
    `CharlmError` for a weight that is not from 0 to 1, or a column in the future of its row.
    """

    layer: int
    head: int
    row: int
    column: int
    weight: float

    def __post_init__(self) -> None:
        check_range("A weight", self.weight, 0, 1)
        if not 0 <= self.column <= self.row:
            raise CharlmError(
                f"The character at {self.row} sees none at {self.column}, only at 0 to {self.row}."
            )


@dataclass(frozen=True)
class HeldNeuron:
    """Holds one of the 4 C hidden units of an MLP at `value` for every character, in place of what leaves
    ReLU². Layer and neuron are numbered from 1. Raises `CharlmError` for a value that is no number."""

    layer: int
    neuron: int
    value: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise CharlmError(f"A neuron is held at a number, not {self.value}.")


@dataclass(frozen=True)
class ResidualPatch:
    """Replaces the channels at `position`, from 0, after `layer` layers (0: after the embedding) by `value`
    (C,): those of another text (activation patching)."""

    layer: int
    position: int
    value: Tensor


ViewEdit: TypeAlias = AttentionCell | HeldNeuron | ResidualPatch


def hooked(model: AttentionModel, edits: Iterable[ViewEdit]) -> AttentionModel:
    """A copy of `model` that shares its weights, and whose forward pass has `edits`.

    Raises `CharlmError` for a part that the model lacks; so does the forward pass of a text that is too short
    for an edit.
    """
    edited = with_own_hooks(model)
    layers: list[Any] = list(edited.layers)
    cells: dict[int, list[AttentionCell]] = {}
    for edit in edits:
        _check(edited, edit)
        if isinstance(edit, AttentionCell):
            cells.setdefault(edit.layer, []).append(edit)
        elif isinstance(edit, HeldNeuron):
            mlp_of(layers[edit.layer - 1]).down.register_forward_pre_hook(_hold(edit))
        else:
            patched = layers[edit.layer - 1] if edit.layer else edited.embedding
            patched.register_forward_hook(_patch(edit))
    for layer, of_layer in cells.items():
        attention_of(layers[layer - 1]).register_forward_hook(_reweigh(of_layer))
    return edited


def with_own_hooks(module: M) -> M:
    """A copy that shares its weights with `module`, but none of its hooks: others use `module` meanwhile."""
    shared: dict[int, Any] = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    return copy.deepcopy(module, shared)


def trace_with(model: AttentionModel, idx: Tensor, edits: Iterable[ViewEdit]) -> Trace:
    """As `trace` of idx (B, T), with `edits`: all that comes after an edit reflects it. The weights of a head
    whose cells are set are those that it used; its scores are those that it had.

    Raises `CharlmError` as `hooked`, and if T exceeds block_size.
    """
    edits = tuple(edits)
    traced = trace(hooked(model, edits), idx)
    weights = traced.weights.clone()
    for layer in {edit.layer for edit in edits if isinstance(edit, AttentionCell)}:
        cells = [edit for edit in edits if isinstance(edit, AttentionCell) and edit.layer == layer]
        weights[layer - 1] = set_cells(weights[layer - 1], cells)
    return replace(traced, weights=weights)


def set_cells(weights: Tensor, cells: Iterable[AttentionCell]) -> Tensor:
    """The weights (B, n_head, T, T) of a layer with `cells` set; a later one replaces an earlier one.

    Raises `CharlmError` if there is no such row, or those of one row cannot sum to 1.
    """
    rows: dict[tuple[int, int], dict[int, float]] = {}
    for cell in cells:
        _check_position(cell.row, weights.shape[-1])
        rows.setdefault((cell.head - 1, cell.row), {})[cell.column] = cell.weight
    weights = weights.clone()
    for (head, row), fixed in rows.items():
        past = weights[:, head, row, : row + 1]
        past.copy_(_share_the_rest(past, fixed))
    return weights


def _share_the_rest(row: Tensor, fixed: dict[int, float]) -> Tensor:
    """A row (B, n) of weights with those of the columns in `fixed` set."""
    columns, values = list(fixed), row.new_tensor(list(fixed.values()))
    rest = 1 - sum(fixed.values())
    if rest < -ROUNDING or (len(fixed) == row.shape[1] and rest > ROUNDING):
        raise CharlmError(f"The weights of a row sum to 1: those that are set cannot sum to {1 - rest:.3g}.")
    free = torch.ones_like(row)
    free[:, columns] = 0
    others = row * free
    others = torch.where(others.sum(1, keepdim=True) > 0, others, free)
    shared = rest * others / others.sum(1, keepdim=True).clamp(min=torch.finfo(row.dtype).tiny)
    shared[:, columns] = values
    return shared


def _reweigh(cells: list[AttentionCell]) -> Callable[..., Tensor]:
    """A forward hook on the heads of a layer."""

    def hook(attention: Any, args: tuple[Tensor, Tensor, Tensor], out: Tensor) -> Tensor:
        q, k, v = attention.queries_keys_values(*args)
        weights = set_cells(attention.weights(attention.compare(q, k)), cells)
        return (weights @ v).transpose(1, 2).flatten(2)

    return hook


def _hold(edit: HeldNeuron) -> Callable[..., Tensor]:
    """A hook before the matrix that reads the neurons."""

    def hook(_: nn.Module, args: tuple[Tensor]) -> Tensor:
        hidden = args[0].clone()
        hidden[..., edit.neuron - 1] = edit.value
        return hidden

    return hook


def _patch(edit: ResidualPatch) -> Callable[..., Tensor]:
    """A forward hook on what gives the channels (B, T, C)."""

    def hook(_: nn.Module, __: Any, x: Tensor) -> Tensor:
        _check_position(edit.position, x.shape[1])
        x = x.clone()
        x[:, edit.position] = edit.value
        return x

    return hook


def _check(model: AttentionModel, edit: ViewEdit) -> None:
    if isinstance(edit, HeldNeuron):
        SwitchNeuron(edit.layer, edit.neuron, on=False).check(model)
    elif isinstance(edit, AttentionCell):
        check_number("layer", edit.layer, model.config.n_layer)
        check_number("head", edit.head, model.config.n_head)
    elif edit.layer:
        check_number("layer", edit.layer, model.config.n_layer)


def _check_position(position: int, T: int) -> None:
    if not 0 <= position < T:
        raise CharlmError(f"There is no character at {position}: the text has {T}.")
