"""When a loss is no loss any more, why, and what helps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from charlm.errors import CharlmError

if TYPE_CHECKING:
    from charlm.training.trainer import TrainingOptions

LARGEST_LOSS = 30.0
"""Nats per character: beyond, a run has diverged. A uniform guess has 4 to 7."""
ENOUGH_WARMUP = 100
"""Steps: where there are fewer, more might help."""


class DivergedError(CharlmError):
    """The loss of a run is no number any more, or beyond `LARGEST_LOSS`."""


def has_diverged(loss: float) -> bool:
    """Whether a loss says so. (NaN does, which is not below anything.)"""
    return not loss <= LARGEST_LOSS


def explain(
    step: int,
    loss: float,
    config: Any,
    options: TrainingOptions,
    measured: tuple[int, float] | None,
    gradient_norm: float | None,
) -> str:
    """What happened after `step` steps to a model with this `config`, and what helps. `measured` is a step
    before and the norm of its gradient, `gradient_norm` that of now, if they are known."""
    told = "the loss is no number"
    if not has_diverged(loss):
        told = "some weights are too large for half precision"
    elif math.isfinite(loss):
        uniform = math.log(config.vocab_size)
        told = f"the loss is {_number(loss)} nats per character, where a uniform guess has {uniform:.2f}"
    steps = "1 step" if step == 1 else f"{step:,} steps"
    said = f"After {steps} {told}: the run has diverged."
    if measured:
        now = "" if gradient_norm is None else f", and is {_number(gradient_norm)} now"
        said += f" The gradient norm was {_number(measured[1])} at step {measured[0]:,}{now}."
    return f"{said} What helps: {', or '.join(_remedies(config, options))}."


def _remedies(config: Any, options: TrainingOptions) -> list[str]:
    rates = f"learning_rate is {options.learning_rate:g}"
    if options.optimizer == "muon":
        rates += f", muon_learning_rate {options.muon_learning_rate:g}"
    helps = [f"a lower rate ({rates})"]
    if options.warmup_steps < ENOUGH_WARMUP:
        helps.append(f"a longer warm-up (warmup_steps is {options.warmup_steps})")
    parts = getattr(config, "parts", None)
    if parts is not None and parts.norm == "none":
        helps.append("a norm (it has none)")
    return helps


def _number(x: float) -> str:
    if not math.isfinite(x):
        return "no number"
    return f"{x:,.0f}" if 100 <= x < 1e9 else f"{x:.3g}"
