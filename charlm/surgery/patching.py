"""Activation patching: where in a run does the model know what makes it continue one text unlike another?

Two texts of one length are read. In the run of the first, the channels at one position after one layer are
replaced by those of the second, and the run goes on from there (Meng et al., 2022, "Locating and Editing
Factual Associations in GPT"). How much of the second's prediction returns is a share of a difference of
logits (Zhang & Nanda, 2023, "Towards Best Practices of Activation Patching in Language Models").
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from charlm.errors import CharlmError
from charlm.models.trace import AttentionModel, resume, trace
from charlm.training.excerpt import CHARS_AT_ONCE

LEAST_DIFFERENCE = 0.01
"""How far apart, in nats, the predictions of two texts have to be."""


@dataclass(frozen=True)
class Patching:
    """What comes back of the second text's prediction, cell by cell.

    The prediction is measured by d, the logit of `second_id` less that of `first_id`, at the last position:
    the log of how much likelier the one is than the other.
    """

    first_id: int
    """The character that loses most probability from the first text to the second."""
    second_id: int
    """The character that gains most."""
    first: float
    """d of the first text."""
    second: float
    """d of the second text, which is larger."""
    returned: Tensor
    """(n_layer + 1, T): (d patched − d first) / (d second − d first), if the channels at a position are those
    of the second text after the embedding (row 0) or after a layer. 0 is the first text's prediction, 1 the
    second's; a cell may lie beyond."""


@torch.no_grad()
def patch(model: AttentionModel, first: Tensor, second: Tensor) -> Patching:
    """Patches every cell of the run of ids `first` (T,) by that of `second` (T,). The model is in eval mode.

    Raises `CharlmError` if the texts differ in length or exceed block_size, or if they are continued alike,
    so that there is nothing to return.
    """
    residual, logits = _both(model, first, second)
    change = (logits[1].softmax(0) - logits[0].softmax(0)).double()
    first_id, second_id = int(change.argmin()), int(change.argmax())
    start, end = (logits[:, second_id] - logits[:, first_id]).tolist()
    if end - start < LEAST_DIFFERENCE:
        raise CharlmError("Both texts are continued alike: there is no difference to be found.")
    rows = []
    for layer, (x, other) in enumerate(residual):
        patched = _every_position(model, x, other, layer)
        rows.append((patched[:, second_id] - patched[:, first_id] - start) / (end - start))
    return Patching(first_id, second_id, start, end, torch.stack(rows))


@torch.no_grad()
def patch_cell(model: AttentionModel, first: Tensor, second: Tensor, layer: int, position: int) -> Tensor:
    """The probabilities (3, vocab_size) of the next character: after ids `first` (T,), after `second` (T,),
    and after `first` with the channels of `second` at `position` after `layer` layers (0: the embedding).

    Raises `CharlmError` if the texts differ in length or exceed block_size, or there is no such cell.
    """
    residual, logits = _both(model, first, second)
    if not (0 <= layer < len(residual) and 0 <= position < len(first)):
        raise CharlmError(
            f"There is no cell {layer}, {position}: they end at {len(residual) - 1}, {len(first) - 1}."
        )
    x = residual[layer, 0].clone()
    x[position] = residual[layer, 1, position]
    patched = resume(model, x[None], layer)[:, -1]
    return torch.cat((logits, patched)).softmax(-1)


def _both(model: AttentionModel, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """The channels (n_layer + 1, 2, T, C) of two texts, and the logits (2, vocab_size) of what comes next."""
    if len(first) != len(second):
        raise CharlmError(f"The texts must be of one length, not {len(first)} and {len(second)} characters.")
    if len(first) == 0:
        raise CharlmError("The texts must have at least one character.")
    residual = trace(model, torch.stack((first, second))).residual
    return residual, model.unembed(residual[-1, :, -1])


def _every_position(model: AttentionModel, x: Tensor, other: Tensor, layer: int) -> Tensor:
    """Logits (T, vocab_size) of what comes after channels x (T, C), if those at each position in turn are
    `other`'s."""
    T = len(x)
    rows = []
    for positions in torch.arange(T).split(max(1, CHARS_AT_ONCE // T)):
        runs = x.repeat(len(positions), 1, 1)
        runs[torch.arange(len(positions)), positions] = other[positions]
        rows.append(resume(model, runs, layer)[:, -1])
    return torch.cat(rows)
