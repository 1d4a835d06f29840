"""The models worth training, each with the recipe that trains it well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from charlm.corpus import TINY_SHAKESPEARE_VOCAB
from charlm.errors import CharlmError
from charlm.models import ARCHITECTURES, LanguageModel, build
from charlm.models.unfilled import outline
from charlm.tokenizer import CharTokenizer
from charlm.training.trainer import TrainingOptions

SIZES = {"block_size": int, "n_layer": int, "n_head": int, "n_embd": int, "dropout": float}
"""What may be changed of a preset's model, and its type."""
OPTIONS = {
    "steps": int,
    "seconds": float,
    "batch_size": int,
    "learning_rate": float,
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


@dataclass(frozen=True)
class Recipe:
    """A model to train and how: all that a run needs besides its text. `sizes` are the fields of its
    configuration but `vocab_size`, which is the text's (`dataclasses.replace` puts in another).

    Raises `CharlmError` if the sizes do not fit together.
    """

    preset: str
    sizes: dict[str, Any]
    options: TrainingOptions
    vocab_size: int = len(TINY_SHAKESPEARE_VOCAB)

    def __post_init__(self) -> None:
        _ = self.config

    @property
    def architecture(self) -> str:
        """The name of the model's class in `ARCHITECTURES`."""
        return PRESETS[self.preset].architecture

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
        changed = {name: self.sizes[name] for name in SIZES if name in self.sizes}
        changed |= {name: getattr(self.options, name) for name in OPTIONS}
        preset = PRESETS[self.preset]
        for name, value in changed.items():
            usual = preset.sizes[name] if name in preset.sizes else getattr(preset.options, name, None)
            if value != usual:
                arguments += ["--" + name.replace("_", "-"), str(value)]
        return arguments


PRESETS: dict[str, Preset] = {
    "bigram": Preset(
        "Bigram table",
        "The last character alone predicts the next: one table, the lecture's first model.",
        "bigram",
        {"block_size": 256},
        TrainingOptions(steps=1000, batch_size=64, learning_rate=0.1, warmup_steps=0, eval_interval=100),
    ),
    "attention": Preset(
        "One attention head",
        "One head of self-attention between two tables: it looks back, but cannot think.",
        "attention",
        {"block_size": 64, "n_layer": 1, "n_head": 1, "n_embd": 64},
        TrainingOptions(steps=3000, batch_size=64, learning_rate=0.01, warmup_steps=100, eval_interval=250),
    ),
    "multi-head": Preset(
        "Four attention heads",
        "Four heads side by side: each can look for something else.",
        "attention",
        {"block_size": 64, "n_layer": 1, "n_head": 4, "n_embd": 64},
        TrainingOptions(steps=1500, batch_size=64, learning_rate=0.01, warmup_steps=100, eval_interval=150),
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


def find(name: str) -> Preset:
    """The preset called `name`. Raises `CharlmError` if there is none."""
    if name not in PRESETS:
        raise CharlmError(f"There is no preset called {name!r:.100}.")
    return PRESETS[name]


def recipe(preset: str, changes: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe of a preset for Tiny Shakespeare, with `changes` of its `SIZES` and `OPTIONS`.

    Raises `CharlmError` if there is no such preset, it has no such size, or the sizes do not fit together.
    """
    chosen, changes = find(preset), changes or {}
    sizes = {name: value for name, value in changes.items() if name in SIZES}
    known = {field.name for field in fields(ARCHITECTURES[chosen.architecture].config_type)}
    for name in sizes:
        if name not in known:
            raise CharlmError(f"A {preset} model has no {name}.")
    options = replace(chosen.options, **{n: value for n, value in changes.items() if n in OPTIONS})
    return Recipe(preset, chosen.sizes | sizes, options)
