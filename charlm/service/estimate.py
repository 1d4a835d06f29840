"""About how long a model's training takes on this machine."""

from __future__ import annotations

import functools
import threading
import time
from dataclasses import replace

from charlm.corpus import Corpus
from charlm.tokenizer import CharTokenizer
from charlm.training import presets
from charlm.training.presets import Recipe
from charlm.training.trainer import Trainer

STEP_OVERHEAD_SECONDS = 0.003
"""What a layer costs in each step however small it is: about ten operators, forth and back."""
_one_at_a_time = threading.Lock()
"""Two trials at once would slow each other. Nobody else takes this lock."""


def seconds_per_step(recipe: Recipe) -> float:
    """About how long one training step takes here, from a trial of the smallest GPT.

    The trial has one thread. On two cores that comes out right: a run has both, and is evaluated on the
    way. On many cores a run is faster than this.
    """
    layers = recipe.sizes.get("n_layer", 1)
    return _operations(recipe) * _seconds_per_operation() + layers * STEP_OVERHEAD_SECONDS


def _operations(recipe: Recipe) -> float:
    """Floating-point operations of a step: 6 for each parameter and character (Kaplan et al., 2020),
    and 12·T·C in each layer for the products of attention."""
    T = recipe.config.block_size
    attention = 12 * T * recipe.sizes.get("n_layer", 0) * recipe.sizes.get("n_embd", 0)
    return (6 * recipe.parameter_count() + attention) * T * recipe.options.batch_size


def _seconds_per_operation() -> float:
    with _one_at_a_time:
        return _measured_seconds_per_operation()


@functools.cache
def _measured_seconds_per_operation() -> float:
    text = "The quick brown fox jumps over the lazy dog. " * 200
    tokenizer = CharTokenizer.from_text(text)
    recipe = replace(presets.recipe("small"), vocab_size=tokenizer.vocab_size)
    trainer = Trainer(recipe.model(tokenizer), Corpus(text, "a trial"), recipe.options)
    trainer.train_step()
    trials = []
    for _ in range(3):
        start = time.perf_counter()
        trainer.train_step()
        trials.append(time.perf_counter() - start)
    return min(trials) / _operations(recipe)
