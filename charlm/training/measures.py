"""What one looks at when a loss curve looks wrong: gradients, updates and activations, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from charlm.models import LanguageModel
from charlm.models.gpt import MLP
from charlm.models.trace import AttentionModel

MEASURES = 50
"""How many steps of a run are measured, about: they are spread evenly."""


class LayerMeasures(TypedDict):
    """What a step did to one layer."""

    name: str
    """embedding, layer 1, …, logits; a bigram table is one layer, called table."""
    gradient: float
    """The norm of its gradient."""
    update_ratio: float
    """The norm of the change of its weights, divided by the norm of the weights before."""
    activation: float
    """The root mean square of what leaves it."""
    dead: float | None
    """The share of its MLP's neurons that are 0 for each character of the batch; None without an MLP."""


class Measures(TypedDict):
    """What one training step did, as JSON."""

    step: int
    """How many steps were taken, this one among them."""
    gradient_norm: float
    """Of all layers together."""
    layers: list[LayerMeasures]


def layers_of(model: LanguageModel) -> dict[str, list[nn.Module]]:
    """The layers of a model by name, from the text to the logits: each one or more modules, which hold its
    weights, and of which the last gives what leaves it."""
    if not isinstance(model, AttentionModel):
        return {"table": [model]}
    layers: dict[str, list[nn.Module]] = {"embedding": [model.embedding]}
    layers |= {f"layer {i}": [layer] for i, layer in enumerate(model.layers, 1)}
    layers["logits"] = [model.lm_head]
    if isinstance(last := getattr(model, "norm", None), nn.Module):
        layers["logits"].insert(0, last)
    return layers


class StepMeasures:
    """Measures one training step of `model`, in three parts: `watching` its forward pass,
    `before_update`, when the gradients are there, and `after_update`.

    Of a batch that processes share, activations are those of this one's share.
    """

    def __init__(self, model: LanguageModel):
        self._layers = layers_of(model)
        self._weights = {
            name: [p for module in modules for p in module.parameters()]
            for name, modules in self._layers.items()
        }
        self._activations: dict[str, Tensor] = {}
        self._dead: dict[str, Tensor] = {}
        self._gradients: dict[str, Tensor] = {}
        self._before: dict[str, list[Tensor]] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Hears what each layer answers."""
        handles = []
        for name, modules in self._layers.items():
            handles.append(modules[-1].register_forward_hook(self._hears(name)))
            mlp = getattr(modules[-1], "mlp", None)
            if isinstance(mlp, MLP):
                handles.append(mlp.up.register_forward_hook(self._hears_neurons(name)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hears(self, name: str) -> Any:
        @torch.no_grad()
        def hear(_module: nn.Module, _arguments: Any, answer: Any) -> None:
            x = answer[0] if isinstance(answer, tuple) else answer  # a whole model gives a loss as well
            length = torch.linalg.vector_norm(x, dtype=torch.float32)
            self._activations[name] = length / math.sqrt(x.numel())

        return hear

    def _hears_neurons(self, name: str) -> Any:
        @torch.no_grad()
        def hear(_module: nn.Module, _arguments: Any, x: Tensor) -> None:
            # ReLU and ReLU² both give 0 for what is not positive.
            self._dead[name] = (x.flatten(0, -2).amax(0) <= 0).float().mean()

        return hear

    @torch.no_grad()
    def before_update(self) -> None:
        """Takes note of gradients and weights."""
        for name, weights in self._weights.items():
            self._gradients[name] = norm(p.grad for p in weights)
            self._before[name] = [p.clone() for p in weights]

    @torch.no_grad()
    def after_update(self, step: int) -> Measures:
        """What the step did, `step` being how many were taken."""
        layers = []
        for name, weights in self._weights.items():
            before = self._before[name]
            change = norm(new - old for new, old in zip(weights, before, strict=True))
            dead = self._dead.get(name)
            layers.append(
                LayerMeasures(
                    name=name,
                    gradient=self._gradients[name].item(),
                    update_ratio=(change / norm(before).clamp_min(1e-12)).item(),
                    activation=self._activations[name].item(),
                    dead=None if dead is None else dead.item(),
                )
            )
        self._before.clear()
        return Measures(step=step, gradient_norm=norm(self._gradients.values()).item(), layers=layers)


def is_finite(measures: Measures) -> bool:
    """Whether all that was measured is a number."""
    numbers = [measures["gradient_norm"]]
    for layer in measures["layers"]:
        numbers += [layer["gradient"], layer["update_ratio"], layer["activation"]]
    return all(map(math.isfinite, numbers))


def norm(tensors: Iterable[Tensor | None]) -> Tensor:
    """The norm of all of them together, None being nothing."""
    norms = [torch.linalg.vector_norm(tensor) for tensor in tensors if tensor is not None]
    return torch.linalg.vector_norm(torch.stack(norms)) if norms else torch.zeros(())
