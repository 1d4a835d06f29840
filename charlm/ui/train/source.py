"""The PyTorch of a run: the training step as it runs, the optimizers, and what its model is built of."""

from __future__ import annotations

import inspect
import textwrap

from charlm.models import ARCHITECTURES, gpt, transformer
from charlm.training import trainer
from charlm.training.presets import Recipe


def code(recipe: Recipe) -> str:
    """The source of all that a run of `recipe` does in a step, and how its model answers."""
    blocks = {"gpt": gpt.Block, "transformer": transformer.Block}
    model = blocks.get(recipe.architecture, ARCHITECTURES[recipe.architecture])
    parts = (
        trainer.Trainer.train_step,
        trainer.build_optimizers,
        trainer.learning_rate_factor,
        model,
    )
    return "\n\n".join(textwrap.dedent(inspect.getsource(part)).rstrip() for part in parts) + "\n"
