"""About how long a model's training takes on this machine, from its start to its last measured loss."""

from __future__ import annotations

import functools
import threading
import time
from dataclasses import dataclass, replace

from charlm.corpus import TRAIN_FRACTION, Corpus
from charlm.service.limits import MAX_RUN_SECONDS, MAX_STEPS, SECONDS_A_LOSS
from charlm.tokenizer import CharTokenizer
from charlm.training import presets
from charlm.training.cost import operations
from charlm.training.presets import Recipe
from charlm.training.trainer import Trainer

STEP_OVERHEAD_SECONDS = 0.003
"""What a layer costs in each step however small it is: about ten operators, forth and back."""
STARTING_SECONDS = 0.5
"""How long a run takes to come to its first step: a process is forked, and the text is read. The first run of
all waits three seconds more, until PyTorch is imported."""
EVALUATION_OVERHEAD_SECONDS = 0.03
"""What a layer costs in each evaluation besides its losses: a sample is written, the checkpoint kept."""
TINY_SHAKESPEARE_CHARS = 1_115_394
_one_at_a_time = threading.Lock()
"""Two trials at once would slow each other. Nobody else takes this lock."""


@dataclass(frozen=True)
class Forecast:
    """What a run will take: its `steps`, the `seconds` from its start to its end, and whether the longest
    time that a run may take ends it earlier than was asked."""

    steps: float
    seconds: float
    cut: bool


def forecast(
    recipe: Recipe, steps: int | None, seconds: float | None, evaluations: int, chars: int
) -> Forecast:
    """About what a run of so many `steps` or `seconds` takes, evaluated so often on a text of so many
    `chars`. One of so many seconds ends after `MAX_STEPS` steps, too."""
    step = seconds_per_step(recipe)
    evaluating = evaluations * _evaluation_seconds(recipe)
    most = MAX_STEPS if steps is None else steps
    whole = most * step + evaluating
    asked = min(seconds or 0.0, whole) if steps is None else whole
    learning = min(MAX_RUN_SECONDS, asked)
    cut = learning < asked
    reached = most if learning == whole else max(1.0, (learning - evaluating) / step)
    return Forecast(reached, STARTING_SECONDS + learning + measuring_seconds(recipe, chars), cut)


def measuring_seconds(recipe: Recipe, chars: int) -> float:
    """About how long the last losses take: on the validation split of a text of so many `chars`, and on as
    much of its training split."""
    split = (1 - TRAIN_FRACTION) * chars
    return 2 * min(SECONDS_A_LOSS, split * _seconds_per_char(recipe))


def _evaluation_seconds(recipe: Recipe) -> float:
    chars = 2 * recipe.options.eval_blocks * recipe.config.block_size
    layers = recipe.sizes.get("n_layer", 1)
    return chars * _seconds_per_char(recipe) + layers * EVALUATION_OVERHEAD_SECONDS


def _seconds_per_char(recipe: Recipe) -> float:
    """To compute a loss, which is a third of the work of learning from it."""
    chars = recipe.options.batch_size * recipe.config.block_size
    return operations(recipe) * _seconds_per_operation() / chars / 3


def seconds_per_step(recipe: Recipe) -> float:
    """About how long one training step takes here, from a trial of the smallest GPT.

    The trial has one thread. On two cores that comes out right: a run has both, and is evaluated on the
    way. On many cores a run is faster than this.
    """
    layers = recipe.sizes.get("n_layer", 1)
    return operations(recipe) * _seconds_per_operation() + layers * STEP_OVERHEAD_SECONDS


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
    return min(trials) / operations(recipe)
