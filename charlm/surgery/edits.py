"""What can be changed of an attention model by its weights alone, and how that is written.

An edit names a part and what is to become of it, `5.4:silent`: the fourth head of the fifth layer. Layers,
heads and neurons are numbered from 1, as on the page. Several edits stand side by side, with a space between.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from charlm.errors import CharlmError
from charlm.models import LanguageModel
from charlm.models.gpt import MLP
from charlm.models.trace import AttentionModel, attention_of

MAX_FACTOR = 3.0
"""By how much a head's output may be multiplied at most."""
MAX_EDITS = 512
"""How many edits one model may have."""
MAX_CHARS = 10_000
"""How long their text may be."""
NO_HEADS = "This model has no heads: it looks at one character only, in one table."
NUMBER = r"([1-9][0-9]{0,4})"
WORDS: dict[str, float] = {"silent": 0.0, "learned": 1.0, "on": True, "off": False}
"""The settings that have a name."""


@dataclass(frozen=True)
class Edit(ABC):
    """A change of one part of one layer."""

    layer: int

    form: ClassVar[re.Pattern[str]]
    """What its text looks like: a group for each field."""

    @property
    @abstractmethod
    def part(self) -> str:
        """What is changed, as the text names it."""

    @property
    @abstractmethod
    def setting(self) -> str:
        """What becomes of it, as the text says it."""

    @property
    @abstractmethod
    def neutral(self) -> bool:
        """Whether it leaves the part as it was learned."""

    @property
    @abstractmethod
    def title(self) -> str:
        """What to put behind the name of a model with this edit."""

    @property
    @abstractmethod
    def titles(self) -> str:
        """The same for several that differ in the part alone, with {} where their number belongs."""

    @abstractmethod
    def check(self, model: AttentionModel) -> None:
        """Raises `CharlmError` if `model` lacks the part."""

    @abstractmethod
    def apply(self, layer: nn.Module) -> None:
        """Writes the change into the weights of `layer`, the one that it names."""

    def __str__(self) -> str:
        return f"{self.part}:{self.setting}"


@dataclass(frozen=True)
class _HeadEdit(Edit):
    head: int

    @property
    def part(self) -> str:
        return f"{self.layer}.{self.head}"

    def check(self, model: AttentionModel) -> None:
        check_number("layer", self.layer, model.config.n_layer)
        check_number("head", self.head, model.config.n_head)

    def rows(self, layer: nn.Module, which: int) -> Tensor:
        """The weights (head_size, C) that give the head its queries (0), keys (1) or values (2)."""
        attention = attention_of(layer)
        weight = attention.qkv.weight
        return weight.view(3, attention.n_head, -1, weight.shape[1])[which, self.head - 1]


@dataclass(frozen=True)
class ScaleHead(_HeadEdit):
    """Multiplies what a head brings by `factor`, in hundredths from 0, which silences it (zero ablation), to
    `MAX_FACTOR`; 1 leaves it as it was learned. Raises `CharlmError` for another factor."""

    factor: float

    form = re.compile(rf"{NUMBER}\.{NUMBER}:(learned|silent|x[0-9]{{1,4}}(?:\.[0-9]{{1,2}})?)")

    def __post_init__(self) -> None:
        if not 0 <= self.factor <= MAX_FACTOR or self.factor != round(self.factor, 2):
            raise CharlmError(
                f"A head's factor must be from 0 to {MAX_FACTOR:g}, in hundredths, not {self.factor:.10g}."
            )

    @property
    def setting(self) -> str:
        if self.factor == 0:
            return "silent"
        return "learned" if self.neutral else f"x{self.factor:g}"

    @property
    def neutral(self) -> bool:
        return self.factor == 1

    @property
    def title(self) -> str:
        name = f"head {self.layer}·{self.head}"
        return f"with {name} ×{self.factor:g}" if self.factor else f"without {name}"

    @property
    def titles(self) -> str:
        return "with {} heads scaled" if self.factor else "without {} heads"

    def apply(self, layer: nn.Module) -> None:
        values = self.rows(layer, 2)
        # Rounded as a checkpoint and the engine would, so that all of them give the same text.
        scaled = (self.factor * values).half()
        if not scaled.isfinite().all():
            raise CharlmError(f"Head {self.layer}·{self.head} is too large already to be multiplied.")
        values.copy_(scaled)


@dataclass(frozen=True)
class AverageHead(_HeadEdit):
    """Makes a head the plain average of all that it can see: the rows of `tril`, each divided by its sum.

    Without queries all scores are 0, also after QK-norm, and softmax gives everything the same weight.
    """

    form = re.compile(rf"{NUMBER}\.{NUMBER}:average")
    setting = "average"
    neutral = False
    titles = "with {} heads averaged"

    @property
    def title(self) -> str:
        return f"with head {self.layer}·{self.head} averaged"

    def apply(self, layer: nn.Module) -> None:
        self.rows(layer, 0).zero_()


@dataclass(frozen=True)
class _Switch(Edit):
    on: bool

    @property
    def setting(self) -> str:
        return "on" if self.on else "off"

    @property
    def neutral(self) -> bool:
        return self.on


@dataclass(frozen=True)
class SwitchAttention(_Switch):
    """Silences all heads of a layer."""

    form = re.compile(rf"{NUMBER}\.attention:(on|off)")
    titles = "without attention in {} layers"

    @property
    def title(self) -> str:
        return f"without attention in layer {self.layer}"

    @property
    def part(self) -> str:
        return f"{self.layer}.attention"

    def check(self, model: AttentionModel) -> None:
        check_number("layer", self.layer, model.config.n_layer)

    def apply(self, layer: nn.Module) -> None:
        attention_of(layer).qkv.weight.chunk(3)[2].zero_()


@dataclass(frozen=True)
class SwitchMLP(_Switch):
    """Silences the MLP of a layer."""

    form = re.compile(rf"{NUMBER}\.mlp:(on|off)")
    titles = "without {} MLPs"

    @property
    def title(self) -> str:
        return f"without MLP {self.layer}"

    @property
    def part(self) -> str:
        return f"{self.layer}.mlp"

    def check(self, model: AttentionModel) -> None:
        _check_mlp(model)
        check_number("layer", self.layer, model.config.n_layer)

    def apply(self, layer: nn.Module) -> None:
        mlp_of(layer).down.weight.zero_()


@dataclass(frozen=True)
class _NeuronEdit(Edit):
    neuron: int


@dataclass(frozen=True)
class SwitchNeuron(_Switch, _NeuronEdit):
    """Silences one of the 4 C hidden units of an MLP."""

    form = re.compile(rf"{NUMBER}\.mlp\.{NUMBER}:(on|off)")
    titles = "without {} neurons"

    @property
    def title(self) -> str:
        return f"without neuron {self.neuron} of MLP {self.layer}"

    @property
    def part(self) -> str:
        return f"{self.layer}.mlp.{self.neuron}"

    def check(self, model: AttentionModel) -> None:
        _check_mlp(model)
        check_number("layer", self.layer, model.config.n_layer)
        check_number("neuron", self.neuron, mlp_of(model.layers[0]).up.out_features)

    def apply(self, layer: nn.Module) -> None:
        mlp_of(layer).down.weight[:, self.neuron - 1].zero_()


KINDS: tuple[Any, ...] = (ScaleHead, AverageHead, SwitchAttention, SwitchMLP, SwitchNeuron)


def parse(text: str) -> tuple[Edit, ...]:
    """The edits that `text` names, such as `5.4:silent 3.1:average 2.3:x1.5 4.attention:off 6.mlp.17:off`.

    Raises `CharlmError` for anything else, and for more than `MAX_EDITS`.
    """
    if len(text) > MAX_CHARS:
        raise CharlmError(f"A list of edits may have {MAX_CHARS:,} characters, not {len(text):,}.")
    edits = tuple(_parse_one(word) for word in text.split())
    check_count(edits)
    return edits


def _parse_one(word: str) -> Edit:
    for kind in KINDS:
        match = kind.form.fullmatch(word)
        if match:
            return kind(*map(_value, match.groups()))
    raise CharlmError(
        f"{word!r:.50} is no edit: write, for example, 5.4:silent, 5.4:average, 5.4:x1.5, 5.4:learned, "
        "4.attention:off, 6.mlp:off or 6.mlp.17:off."
    )


def _value(group: str) -> float:
    if group in WORDS:
        return WORDS[group]
    return float(group[1:]) if group.startswith("x") else int(group)


def text_of(edits: Iterable[Edit]) -> str:
    """What `parse` reads as `edits`."""
    return " ".join(map(str, edits))


def merge(edits: Iterable[Edit]) -> tuple[Edit, ...]:
    """What is left of `edits` if a later one replaces an earlier one of the same part, and those that leave a
    part as it was learned are dropped."""
    latest = {edit.part: edit for edit in edits}
    return tuple(edit for edit in latest.values() if not edit.neutral)


def check_count(edits: tuple[Edit, ...]) -> None:
    """Raises `CharlmError` for more than `MAX_EDITS`."""
    if len(edits) > MAX_EDITS:
        raise CharlmError(f"One model may have {MAX_EDITS} edits, not {len(edits)}.")


def title(edits: Iterable[Edit]) -> str:
    """What to put behind the name of a model that has `edits`, as in “GPT without head 5·4”; empty if they
    change nothing."""
    edits = merge(edits)
    if not edits:
        return ""
    if len(edits) == 1:
        return edits[0].title
    kinds = {edit.titles for edit in edits}
    return (kinds.pop() if len(kinds) == 1 else "with {} edits").format(len(edits))


def all_average(model: LanguageModel) -> tuple[AverageHead, ...]:
    """The edits that make every head of `model` a plain average. Raises `CharlmError` if it has no heads."""
    config = attentive(model).config
    return tuple(
        AverageHead(layer, head)
        for layer in range(1, config.n_layer + 1)
        for head in range(1, config.n_head + 1)
    )


def attentive(model: LanguageModel) -> AttentionModel:
    """`model`, if it has heads. Raises `CharlmError` otherwise."""
    if not isinstance(model, AttentionModel):
        raise CharlmError(NO_HEADS)
    return model


def mlp_of(layer: nn.Module) -> MLP:
    """The MLP of a layer that has one."""
    assert isinstance(layer.mlp, MLP)
    return layer.mlp


def check_number(part: str, number: int, most: int) -> None:
    """Raises `CharlmError` unless a model with the parts 1 to `most` has that `number`."""
    if not 1 <= number <= most:
        raise CharlmError(f"There is no {part} {number}: this model has {part}s 1 to {most}.")


def _check_mlp(model: AttentionModel) -> None:
    if model.config.parts.mlp == "none":
        raise CharlmError("This model has no MLP: its layers are heads alone.")
