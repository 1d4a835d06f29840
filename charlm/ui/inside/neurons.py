"""The neurons of a block's MLP: which are awake at one character, and what each pushes. No Gradio."""

from __future__ import annotations

from typing import Any, TypeGuard

import torch
from torch import Tensor

from charlm.errors import CharlmError, check_range
from charlm.models import LanguageModel
from charlm.models.trace import AttentionModel, trace
from charlm.surgery import edits as surgery
from charlm.surgery.hooks import HeldNeuron, hooked, with_own_hooks
from charlm.ui.inside.numbers import distributions, place_of
from charlm.ui.texts import readable

NEURONS = 12
"""How many neurons of a block are listed."""
PUSHED = 3
"""How many characters are named that a neuron pushes up, and down."""
MOST_HELD = 1000.0
"""The largest value at which a neuron is held."""
NO_NEURONS = "This model has no MLP, and so no neurons: choose one that has, such as a GPT."


def activations(model: AttentionModel, residual: Tensor, layer: int) -> Tensor:
    """The values of the neurons of block `layer`, from 1, as they leave ReLU or ReLU²: channels
    (n_layer + 1, B, T, C) as `trace` keeps them → (B, T, 4 C)."""
    block, x = with_own_hooks(model.layers[layer - 1]), residual[layer - 1]
    T = x.shape[1]
    entered: list[Tensor] = []
    surgery.mlp_of(block).down.register_forward_pre_hook(lambda _, args: entered.append(args[0]))
    block(x, model.cos[:T], model.sin[:T])
    return entered[0]


def pushes(model: AttentionModel, x: Tensor, layer: int, neurons: Tensor, values: Tensor) -> Tensor:
    """What each of `neurons` (N,), numbered from 0, adds by itself to the scores of the next character,
    (N, vocab_size): the logits of channels x (C,), those after the last block, less the logits without its
    column of `down` times its value (N,). Each row is less its mean, which softmax would not see.

    It is the neuron's direct effect: blocks after `layer` stay as they were.
    """
    down: Any = surgery.mlp_of(model.layers[layer - 1]).down
    added = values[:, None] * down.weight.T[neurons]
    change = model.unembed(x) - model.unembed(x - added)
    return change - change.mean(1, keepdim=True)


@torch.no_grad()
def explain(
    model: LanguageModel,
    text: str,
    behind: int,
    layer: int,
    neuron: int | None = None,
    held: float | None = None,
) -> dict[str, Any]:
    """The neurons of block `layer` at the character of `text` with `behind` others behind it, the
    `most` active ones first; and the `chosen` one, or else the most active, with the guess at the next
    character as it is and, if a value is given, with the neuron `held` there for all characters.

    Layers and neurons are numbered from 1. Raises `CharlmError` for a model without MLP, a part that it
    lacks, a value that is not from 0 to `MOST_HELD`, or a text of which nothing can be read.
    """
    if not _has_neurons(model):
        raise CharlmError(NO_NEURONS)
    surgery.check_number("block", layer, model.config.n_layer)
    text, _ = readable(model, text)
    idx, place = torch.tensor([model.tokenizer.encode(text)]), place_of(text, behind)
    residual = trace(model, idx).residual
    values = activations(model, residual, layer)[0, place]
    most = values.topk(min(NEURONS, len(values))).indices.tolist()
    surgery.check_number("neuron", most[0] + 1 if neuron is None else neuron, len(values))
    chosen = most[0] if neuron is None else neuron - 1
    listed = _listed(model, residual[-1, 0, place], layer, [*most, chosen], values)
    runs = [model(idx)[0][0, place]]
    if held is not None:
        check_range("A neuron's value", held, 0, MOST_HELD)
        runs.append(hooked(model, [HeldNeuron(layer, chosen + 1, held)])(idx)[0][0, place])
    return {
        "most": listed[:-1],
        "awake": int((values > 0).sum()),
        "count": len(values),
        "chosen": listed[-1],
        "held": held,
        "bars": distributions(model, *(run.softmax(0) for run in runs)),
    }


def _listed(
    model: AttentionModel, x: Tensor, layer: int, ids: list[int], values: Tensor
) -> list[dict[str, Any]]:
    """Neurons, each with its number from 1, its value and the characters that it pushes most."""
    neurons = torch.tensor(ids)
    found = []
    for i, row in zip(ids, pushes(model, x, layer, neurons, values[neurons]), strict=True):
        k = min(PUSHED, len(row))
        up, down = row.topk(k), row.topk(k, largest=False)
        pushed = {
            name: [
                {"char": model.tokenizer.vocab[j], "by": by}
                for j, by in zip(ends.indices.tolist(), ends.values.tolist(), strict=True)
            ]
            for name, ends in (("up", up), ("down", down))
        }
        found.append({"neuron": i + 1, "value": values[i].item(), **pushed})
    return found


def switched_off(edits: str, layer: int) -> list[int]:
    """The neurons of a layer that `edits` switch off one by one."""
    found = surgery.merge(surgery.parse(edits))
    return [e.neuron for e in found if isinstance(e, surgery.SwitchNeuron) and e.layer == layer]


def without(edits: str, layer: int, neuron: int) -> str:
    """`edits`, but those of one neuron."""
    part = surgery.SwitchNeuron(layer, neuron, on=True).part
    return surgery.text_of(edit for edit in surgery.parse(edits) if edit.part != part)


def is_mlp_off(edits: str, layer: int) -> bool:
    """Whether `edits` switch off the whole MLP of a layer."""
    return surgery.SwitchMLP(layer, on=False) in surgery.merge(surgery.parse(edits))


def section(model: LanguageModel) -> dict[str, Any]:
    """Of how many `layers` the neurons can be shown, and whether ReLU is `squared`; or `why` of none."""
    if not _has_neurons(model):
        return {"why": NO_NEURONS}
    return {"layers": model.config.n_layer, "squared": model.config.parts.mlp == "relu2"}


def _has_neurons(model: LanguageModel) -> TypeGuard[AttentionModel]:
    return isinstance(model, AttentionModel) and model.config.parts.mlp != "none"
