"""The models worth training, each with the recipe that trains it well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from charlm.corpus import TINY_SHAKESPEARE_VOCAB
from charlm.errors import CharlmError
from charlm.models import ARCHITECTURES, LanguageModel, Parts, build
from charlm.models.parts import CHOICES
from charlm.models.unfilled import outline
from charlm.tokenizer import CharTokenizer
from charlm.training.rungs import FIRST_OPTIONS, FIRST_SIZES, RUNGS
from charlm.training.trainer import TrainingOptions

SIZES = {"block_size": int, "n_layer": int, "n_head": int, "n_embd": int, "dropout": float}
"""What may be changed of a preset's model besides its `Parts`, and its type."""
OPTIONS = {
    "steps": int,
    "seconds": float,
    "batch_size": int,
    "optimizer": str,
    "learning_rate": float,
    "muon_learning_rate": float,
    "schedule": str,
    "warmup_steps": int,
    "average_decay": float,
    "eval_interval": int,
    "seed": int,
}
"""What may be changed of how it is trained, and its type."""


@dataclass(frozen=True)
class Preset:
    """A model to train: its architecture, the sizes of its configuration, and how to train it."""

    title: str
    description: str
    architecture: str
    sizes: dict[str, Any]
    options: TrainingOptions

    @property
    def has_parts(self) -> bool:
        """Whether its model is made of parts: all are but the bigram."""
        return hasattr(ARCHITECTURES[self.architecture].config_type, "parts")


@dataclass(frozen=True)
class Recipe:
    """A model to train and how: all that a run needs besides its text. `architecture` is the name of its
    class in `ARCHITECTURES`, `sizes` are the fields of its configuration but `vocab_size`, which is the
    text's (`dataclasses.replace` puts in another).

    Raises `CharlmError` if they do not fit together.
    """

    preset: str
    architecture: str
    sizes: dict[str, Any]
    options: TrainingOptions
    vocab_size: int = len(TINY_SHAKESPEARE_VOCAB)

    def __post_init__(self) -> None:
        _ = self.config
        if self.options.optimizer == "muon" and self.parts is None:
            raise CharlmError(
                "Muon is for the matrices inside layers, and a bigram table has none: use adamw or sgd."
            )

    @property
    def parts(self) -> Parts | None:
        """What the model is made of; None for a bigram table."""
        return getattr(self.config, "parts", None)

    @property
    def config(self) -> Any:
        """The model's configuration."""
        return ARCHITECTURES[self.architecture].config_type(vocab_size=self.vocab_size, **self.sizes)

    def model(self, tokenizer: CharTokenizer) -> LanguageModel:
        """The model before its first step, for the vocabulary of `tokenizer`."""
        return build(self.architecture, tokenizer, self.sizes, self.options.seed)

    def parameter_count(self) -> int:
        """How many numbers the training sets."""
        return outline(ARCHITECTURES[self.architecture], self.config).parameter_count()

    def arguments(self) -> list[str]:
        """What the command line's `train` is given to follow this recipe."""
        arguments = [self.preset]
        usual = recipe(self.preset).settings()
        for name, value in self.settings().items():
            if value == usual.get(name):
                continue
            option = name.replace("_", "-")
            if isinstance(value, bool):
                arguments.append(f"--{option}" if value else f"--no-{option}")
            else:
                arguments += [f"--{option}", str(value)]
        return arguments

    def settings(self) -> dict[str, Any]:
        """All that may be changed of a preset, by its name, as it is here."""
        sizes = {name: getattr(self.config, name) for name in SIZES if hasattr(self.config, name)}
        options = {name: getattr(self.options, name) for name in OPTIONS}
        return sizes | (asdict(self.parts) if self.parts else {}) | options


PRESETS: dict[str, Preset] = {
    "bigram": Preset(
        "Bigram table",
        "The last character alone predicts the next: one table, the lecture's first model.",
        "bigram",
        {"block_size": 256},
        TrainingOptions(
            steps=1000,
            batch_size=64,
            optimizer="adamw",
            learning_rate=0.1,
            warmup_steps=0,
            eval_interval=100,
        ),
    ),
    "attention": Preset(
        "One attention head",
        "One head of self-attention between two tables: it looks back, but cannot think.",
        "attention",
        {"block_size": 64, "n_layer": 1, "n_head": 1, "n_embd": 64},
        TrainingOptions(
            steps=3000,
            batch_size=64,
            optimizer="adamw",
            learning_rate=0.01,
            warmup_steps=100,
            eval_interval=250,
        ),
    ),
    "multi-head": Preset(
        "Four attention heads",
        "Four heads side by side: each can look for something else.",
        "attention",
        {"block_size": 64, "n_layer": 1, "n_head": 4, "n_embd": 64},
        TrainingOptions(
            steps=1500,
            batch_size=64,
            optimizer="adamw",
            learning_rate=0.01,
            warmup_steps=100,
            eval_interval=150,
        ),
    ),
    "small": Preset(
        "GPT, four layers",
        "A whole GPT, small enough to learn words in a minute or two.",
        "gpt",
        {"block_size": 128, "n_layer": 4, "n_head": 4, "n_embd": 128},
        TrainingOptions(
            steps=600, batch_size=16, learning_rate=0.01, muon_learning_rate=0.04, eval_interval=50
        ),
    ),
    "gpt": Preset(
        "GPT, six layers",
        "A small GPT, six blocks of attention and MLP: the best of these models.",
        "gpt",
        {"block_size": 256, "n_layer": 6, "n_head": 4, "n_embd": 256, "dropout": 0.2},
        TrainingOptions(
            steps=4000,
            batch_size=16,
            learning_rate=0.006,
            muon_learning_rate=0.04,
            warmup_steps=100,
            average_decay=0.99,
            eval_interval=200,
        ),
    ),
}


def _simplest(sizes: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The architecture and the sizes of a model with all of these sizes and parts: if there is one with just
    these parts that has a file of its own, that one, for it is the quickest to write with."""
    parts = Parts(**{name: sizes[name] for name in CHOICES})
    for name in ("attention", "gpt"):
        known: Any = ARCHITECTURES[name].config_type
        if known.parts == parts:
            return name, {size: value for size, value in sizes.items() if size in SIZES}
    return "transformer", sizes


def _ladder() -> dict[str, Preset]:
    """A preset for each of `RUNGS`."""
    presets: dict[str, Preset] = {}
    sizes, options = dict(FIRST_SIZES), FIRST_OPTIONS
    for rung in RUNGS:
        sizes, options = sizes | rung.changes, replace(options, **rung.options)
        presets[rung.name] = Preset(rung.title, rung.added, *_simplest(sizes), options)
    return presets


PRESETS |= _ladder()


def find(name: str) -> Preset:
    """The preset called `name`. Raises `CharlmError` if there is none."""
    if name not in PRESETS:
        raise CharlmError(f"There is no preset called {name!r:.100}.")
    return PRESETS[name]


def recipe(preset: str, changes: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe of a preset for Tiny Shakespeare, with `changes` of its `SIZES`, its `CHOICES` of parts and
    its `OPTIONS`.

    Raises `CharlmError` if there is no such preset, it has nothing of that name, or what is changed does not
    fit together.
    """
    chosen, changes = find(preset), changes or {}
    sizes = {name: value for name, value in changes.items() if name in SIZES}
    config_type: Any = ARCHITECTURES[chosen.architecture].config_type
    known = {field.name for field in fields(config_type)} | (CHOICES.keys() if chosen.has_parts else set())
    for name in changes:
        if name not in known | OPTIONS.keys():
            raise CharlmError(f"A {preset} model has no {name:.100}.")
    options = replace(chosen.options, **{n: value for n, value in changes.items() if n in OPTIONS})
    architecture, sizes = chosen.architecture, chosen.sizes | sizes
    parts = {name: value for name, value in changes.items() if name in CHOICES}
    if parts:
        architecture, sizes = _with_parts(architecture, sizes, parts)
    return Recipe(preset, architecture, sizes, options)


def _with_parts(
    architecture: str, sizes: dict[str, Any], changed: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    """The architecture and the sizes of a model with other parts."""
    config: Any = ARCHITECTURES[architecture].config_type(vocab_size=1, **sizes)
    return _simplest({name: getattr(config, name) for name in SIZES} | asdict(config.parts) | changed)
