"""The switches of the laboratory: what can be changed of a model and of how it learns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from charlm.errors import CharlmError
from charlm.models.parts import CHOICES
from charlm.service.limits import BOUNDS
from charlm.training import presets
from charlm.training.presets import OPTIONS, SIZES
from charlm.training.rungs import RUNGS
from charlm.training.trainer import OPTIMIZERS, SCHEDULES
from charlm.ui.texts import PART_NAMES

PARTS, SIZE, LEARNING = "The model: parts", "Its sizes", "How it learns"
GROUPS = (PARTS, SIZE, LEARNING)
WORDS = PART_NAMES | {
    "none": "none",
    "learned": "learned",
    "rotary": "rotary",
    "sgd": "SGD",
    "adamw": "AdamW",
    "muon": "Muon",
    "constant": "constant",
    "linear": "linear",
    "cosine": "cosine",
}
"""How each choice is called on the page."""


def plural(value: float, noun: str) -> str:
    return f"{value:g} {noun}{'' if value == 1 else 's'}"


def with_or_without(noun: str) -> Callable[[Any], str]:
    return lambda value: f"with {noun}" if value else f"without {noun}"


def chosen(noun: str, **said: str) -> Callable[[Any], str]:
    """Of a choice, "without `noun`" for none, what is `said` of it, or "with" its own name."""
    names = {"none": f"without {noun}"} | said
    return lambda value: names.get(value, f"with {WORDS[value]}")


@dataclass(frozen=True)
class Knob:
    """One switch. `name` is that of `presets.SIZES`, `parts.CHOICES` or `presets.OPTIONS`; `sentence` says
    what it does, and `phrase` what is said of a model that has it set so."""

    name: str
    group: str
    label: str
    sentence: str
    phrase: Callable[[Any], str]
    step: float = 1
    """Between the values of a slider; 0 for a number that is typed, such as a rate."""

    @property
    def choices(self) -> tuple[Any, ...]:
        """What it can be set to; empty for a number."""
        others = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES}
        return CHOICES.get(self.name, others.get(self.name, ()))

    @property
    def is_switch(self) -> bool:
        """Whether it is on or off."""
        return self.choices == (False, True)

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the most of a number."""
        least, most = BOUNDS[self.name]
        return (8, most) if self.name == "n_embd" else (least, most)

    def read(self, value: Any) -> Any:
        """A control's value as a setting. Raises `CharlmError` if there is none."""
        if self.choices:
            return value
        if value is None:
            raise CharlmError(f"{self.label}: which number?")
        kind = (SIZES | OPTIONS)[self.name]
        return kind(value)


KNOBS = (
    Knob(
        "residual",
        PARTS,
        "Residual connections",
        "What attention and MLP give out is added to what they read. Without this, it replaces what they "
        "read, and a gradient has to get through every part to reach the first.",
        with_or_without("residual connections"),
    ),
    Knob(
        "norm",
        PARTS,
        "Normalisation",
        "Each part reads its input scaled to one size: LayerNorm also takes off the mean and learns gains, "
        "RMSNorm, as it is here, only divides by the root mean square.",
        chosen("normalisation"),
    ),
    Knob(
        "mlp",
        PARTS,
        "MLP",
        "After looking back, each character thinks on its own, with neurons of this kind.",
        chosen("an MLP"),
    ),
    Knob(
        "scaled",
        PARTS,
        "Scores divided by √d",
        "Else the scores grow with the channels of a head, the softmax is all or nothing, and hardly a "
        "gradient gets through.",
        with_or_without("division by √d"),
    ),
    Knob(
        "positions",
        PARTS,
        "Positions",
        "How the model knows where a character stands: a learned row for each place, or queries and keys "
        "turned by their place. With none, it sees which characters came before, but hardly in which order.",
        chosen("positions", learned="with learned positions", rotary="with rotary positions"),
    ),
    Knob(
        "causal",
        PARTS,
        "Causal mask",
        "No character sees the next one. Off, the model cheats: it reads the answer, its loss falls towards "
        "0, and it cannot write, for then there is no answer to read.",
        with_or_without("the causal mask"),
    ),
    Knob(
        "projection",
        PARTS,
        "Projection",
        "A matrix mixes what the heads of a layer bring.",
        with_or_without("a projection"),
    ),
    Knob(
        "qk_norm",
        PARTS,
        "QK-norm",
        "Queries and keys are normalised before they are compared, so that no score gets out of hand.",
        with_or_without("QK-norm"),
    ),
    Knob(
        "block_size",
        SIZE,
        "Block size",
        "How many characters the model looks back at, at most.",
        lambda value: f"with blocks of {value:g}",
    ),
    Knob(
        "n_layer",
        SIZE,
        "Layers",
        "How often it looks back and thinks: the depth.",
        lambda value: f"with {plural(value, 'layer')}",
    ),
    Knob(
        "n_head",
        SIZE,
        "Heads",
        "In how many ways each layer looks back. They share its channels equally.",
        lambda value: f"with {plural(value, 'head')}",
    ),
    Knob(
        "n_embd",
        SIZE,
        "Channels",
        "How many numbers describe a character on its way: the width.",
        lambda value: f"with {plural(value, 'channel')}",
        step=8,
    ),
    Knob(
        "dropout",
        SIZE,
        "Dropout",
        "This share of what each part answers is left out at random, so that nothing relies on a single "
        "number. It helps a model that learns by heart, and slows all others.",
        lambda value: f"with dropout {value:g}" if value else "without dropout",
        step=0.05,
    ),
    Knob(
        "optimizer",
        LEARNING,
        "Optimiser",
        "SGD steps along the gradient; AdamW takes about equal steps for all numbers; Muon makes the step of "
        "each matrix orthogonal, and leaves the rest to AdamW. Each needs a rate of its own.",
        lambda value: f"with {WORDS[value]}",
    ),
    Knob(
        "learning_rate",
        LEARNING,
        "Learning rate",
        "How long a step is. Too small, and nothing is learned in time; too large, and the loss shoots up.",
        lambda value: f"at rate {value:g}",
        step=0,
    ),
    Knob(
        "muon_learning_rate",
        LEARNING,
        "Learning rate of Muon",
        "The same for the matrices inside the layers, which Muon trains.",
        lambda value: f"with Muon at {value:g}",
        step=0,
    ),
    Knob(
        "schedule",
        LEARNING,
        "Schedule",
        "How the rate goes on after the warm-up: as it is, or down to zero on a line or a cosine.",
        lambda value: "at a constant rate" if value == "constant" else f"with a {value} schedule",
    ),
    Knob(
        "warmup_steps",
        LEARNING,
        "Steps of warm-up",
        "How many steps the rate takes to rise from zero, while the first gradients are wild.",
        lambda value: f"with {plural(value, 'step')} of warm-up" if value else "without warm-up",
    ),
    Knob(
        "batch_size",
        LEARNING,
        "Batch size",
        "How many chunks each step learns from: more make a surer gradient, and a slower step.",
        lambda value: f"with batches of {value:g}",
    ),
    Knob(
        "average_decay",
        LEARNING,
        "Weight averaging",
        "What is kept is a moving average of the weights: the nearer to 1, the longer. At 0 it is those "
        "of the last step themselves.",
        lambda value: f"with weights averaged at {value:g}" if value else "without weight averaging",
        step=0.01,
    ),
)
BY_NAME = {knob.name: knob for knob in KNOBS}
RATES = ("learning_rate", "muon_learning_rate")
SUITABLE_RATES = {"sgd": 0.1, "adamw": 3e-3}
"""What suits a transformer; Muon's rates are those of `small`, where they were tried."""


def of_preset(preset: str) -> dict[str, Any]:
    """What each switch that the model of a preset or a rung has is set to."""
    settings = presets.recipe(preset).settings()
    if not presets.find(preset).has_parts:
        del settings["muon_learning_rate"]
    return {name: settings[name] for name in BY_NAME if name in settings}


def info_of(name: str) -> str:
    """What a switch does, and the bounds of a number that is typed."""
    knob = BY_NAME[name]
    return knob.sentence if knob.step else f"{knob.sentence} From {knob.bounds[0]:g} to {knob.bounds[1]:g}."


def title_of(preset: str) -> str:
    """How a preset is called where a model is named in a few words."""
    rungs = [rung.name for rung in RUNGS]
    return f"rung {rungs.index(preset) + 1}" if preset in rungs else preset


def read(preset: str, values: Iterable[Any]) -> dict[str, Any]:
    """What `values`, one for each of `KNOBS`, change of a preset. Raises `CharlmError` for a
    number that is missing."""
    usual = of_preset(preset)
    pairs = zip(KNOBS, values, strict=True)
    settings = {knob.name: knob.read(value) for knob, value in pairs if knob.name in usual}
    if settings["optimizer"] != "muon" and "muon_learning_rate" in settings:
        settings["muon_learning_rate"] = usual["muon_learning_rate"]
    return {name: value for name, value in settings.items() if value != usual[name]}


def suitable_rates(preset: str, optimizer: str) -> dict[str, float]:
    """The rates that suit an optimizer: the preset's own if it is trained with that one."""
    usual = of_preset(preset)
    if usual["optimizer"] == optimizer:
        return {name: usual[name] for name in RATES if name in usual}
    if optimizer in SUITABLE_RATES:
        return {"learning_rate": SUITABLE_RATES[optimizer]}
    return {name: of_preset("small")[name] for name in RATES}


def differences(preset: str, changes: Mapping[str, Any]) -> list[str]:
    """What `changes` make of a preset, a phrase each. A rate that comes with a change of the optimizer goes
    without saying."""
    rates = suitable_rates(preset, changes["optimizer"]) if "optimizer" in changes else {}
    return [
        knob.phrase(changes[knob.name])
        for knob in KNOBS
        if knob.name in changes and changes[knob.name] != rates.get(knob.name)
    ]
