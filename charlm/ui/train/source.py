"""The PyTorch of a run: the training step as it runs, the optimizers, and what its model is built of."""

from __future__ import annotations

import inspect
import textwrap

from charlm.models import ARCHITECTURES, gpt, transformer
from charlm.training import trainer
from charlm.training.presets import Recipe

STEP = ("train_step", "_compute_gradients", "_set_rates")
"""The methods of `Trainer` that a step is made of."""


def code(recipe: Recipe) -> str:
    """The source of all that a run of `recipe` does in a step, and how its model answers."""
    blocks = {"gpt": gpt.Block, "transformer": transformer.Block}
    model = blocks.get(recipe.architecture, ARCHITECTURES[recipe.architecture])
    methods = (getattr(trainer.Trainer, name) for name in STEP)
    parts = (*methods, trainer.learning_rate_factor, trainer.build_optimizers, model)
    return "\n\n".join(textwrap.dedent(inspect.getsource(part)).rstrip() for part in parts) + "\n"
