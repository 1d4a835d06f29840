"""The models worth training, each with the recipe that trains it well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from charlm.errors import CharlmError
from charlm.training import TrainingOptions


@dataclass(frozen=True)
class Preset:
    """A model to train: its architecture, the sizes of its configuration, and how to train it."""

    description: str
    architecture: str
    sizes: dict[str, Any]
    options: TrainingOptions


PRESETS = {
    "bigram": Preset(
        "The last character alone predicts the next: one table, the lecture's first model.",
        "bigram",
        {"block_size": 256},
        TrainingOptions(steps=1000, batch_size=64, learning_rate=0.1, warmup_steps=0, eval_interval=100),
    ),
    "attention": Preset(
        "One head of self-attention between two tables: it looks back, but cannot think.",
        "attention",
        {"block_size": 64, "n_layer": 1, "n_head": 1, "n_embd": 64},
        TrainingOptions(steps=3000, batch_size=64, learning_rate=0.01, warmup_steps=100, eval_interval=250),
    ),
    "multi-head": Preset(
        "Four heads side by side: each can look for something else.",
        "attention",
        {"block_size": 64, "n_layer": 1, "n_head": 4, "n_embd": 64},
        TrainingOptions(steps=1500, batch_size=64, learning_rate=0.01, warmup_steps=100, eval_interval=150),
    ),
    "small": Preset(
        "A whole GPT, small enough to learn words in a minute or two.",
        "attention",
        {"block_size": 128, "n_layer": 4, "n_head": 4, "n_embd": 128, "decoder": True},
        TrainingOptions(
            steps=600, batch_size=16, learning_rate=0.01, muon_learning_rate=0.04, eval_interval=50
        ),
    ),
    "gpt": Preset(
        "A small GPT, six blocks of attention and MLP: the best of these models.",
        "attention",
        {"block_size": 256, "n_layer": 6, "n_head": 4, "n_embd": 256, "decoder": True, "dropout": 0.2},
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
