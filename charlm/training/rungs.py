"""The ladder from the lecture's first head to the GPT's parts, at the lecture's sizes and then at the size of
`small`: each rung is the one before with one thing added."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from charlm.models import Parts
from charlm.training.trainer import TrainingOptions

FIRST_SIZES: dict[str, Any] = {"block_size": 8, "n_layer": 1, "n_head": 1, "n_embd": 32}
FIRST_SIZES |= asdict(Parts(projection=False, mlp="none", residual=False, norm="none"))
"""Of the first rung with heads; the bigram is below it."""
FIRST_OPTIONS = TrainingOptions(
    steps=5000,
    batch_size=32,
    optimizer="adamw",
    schedule="constant",
    learning_rate=1e-3,
    warmup_steps=0,
    average_decay=0.0,
    eval_interval=500,
)
"""How the lecture trains it."""


@dataclass(frozen=True)
class Rung:
    """What is `added` to the rung below, in a sentence, and which sizes, parts and options that changes."""

    name: str
    title: str
    added: str
    changes: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


RUNGS = (
    Rung("one-head", "One head", "A head looks back at up to eight characters."),
    Rung("four-heads", "Four heads", "Four small heads take the place of the large one.", {"n_head": 4}),
    Rung(
        "mlp",
        "Projection and MLP",
        "A matrix mixes what the heads bring, and each character thinks about it on its own.",
        {"projection": True, "mlp": "relu"},
    ),
    Rung("blocks", "Three blocks", "The same three times over: depth.", {"n_layer": 3}),
    Rung(
        "residual",
        "Residual connections",
        "What a part gives out is added to what it reads, so that gradients reach the first block "
        "undiminished.",
        {"residual": True},
    ),
    Rung("layernorm", "LayerNorm", "Each part reads its input normalised.", {"norm": "layernorm"}),
    Rung(
        "scaled",
        "Depth, width and dropout",
        "Four blocks, four times as wide, that read 128 characters; and a rate that falls to zero.",
        {"block_size": 128, "n_layer": 4, "n_embd": 128, "dropout": 0.1},
        {
            "steps": 2000,
            "batch_size": 16,
            "schedule": "linear",
            "learning_rate": 3e-3,
            "warmup_steps": 50,
            "average_decay": 0.99,
            "eval_interval": 200,
        },
    ),
    Rung(
        "rotary",
        "Rotary positions",
        "Queries and keys are turned by their positions, in place of a learned row for each.",
        {"positions": "rotary"},
    ),
    Rung(
        "rmsnorm",
        "RMSNorm",
        "Each row is divided by its root mean square: no mean, no gains.",
        {"norm": "rmsnorm"},
    ),
    Rung("relu2", "ReLU²", "What leaves ReLU in the MLP is squared.", {"mlp": "relu2"}),
    Rung(
        "qk-norm", "QK-norm", "Queries and keys are normalised before they are compared.", {"qk_norm": True}
    ),
    Rung(
        "muon",
        "Muon",
        "The matrices learn by orthogonal updates: in all directions equally fast.",
        options={"optimizer": "muon", "learning_rate": 0.01, "muon_learning_rate": 0.04},
    ),
)
