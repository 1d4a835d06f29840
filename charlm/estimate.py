"""How large a model will be, and about how long its training takes on this machine."""

from __future__ import annotations

import functools
import time
from typing import Any

import torch

from charlm import checkpoints, presets
from charlm.corpus import Corpus
from charlm.tokenizer import CharTokenizer
from charlm.training import Trainer

STEP_OVERHEAD_SECONDS = 0.003
"""What a layer costs in each step however small it is: about ten operators, forth and back."""


def parameter_count(preset: str, sizes: dict[str, int], vocab_size: int) -> int:
    """How many numbers the training of `preset` with these `sizes` sets.

    Raises `CharlmError` if there is no such preset or the sizes do not fit together.
    """
    chosen = presets.find(preset)
    config_type, model_type = checkpoints.ARCHITECTURES[chosen.architecture]
    config = config_type(vocab_size=vocab_size, **chosen.sizes | sizes)
    with torch.device("meta"):
        return model_type(config).parameter_count()


def seconds_per_step(preset: str, sizes: dict[str, int], vocab_size: int) -> float:
    """About how long one training step takes here, from a trial of the smallest GPT.

    Raises `CharlmError` if there is no such preset or the sizes do not fit together.
    """
    full = presets.find(preset).sizes | sizes
    layers = full.get("n_layer", 1)
    return _operations(preset, sizes, vocab_size) * _seconds_per_operation() + layers * STEP_OVERHEAD_SECONDS


def _operations(preset: str, sizes: dict[str, int], vocab_size: int) -> float:
    """Floating-point operations of a step: 6 for each parameter and character (Kaplan et al., 2020),
    and 12·T·C in each layer for the products of attention."""
    full: dict[str, Any] = presets.find(preset).sizes | sizes
    T = full["block_size"]
    attention = 12 * T * full.get("n_layer", 0) * full.get("n_embd", 0)
    per_char = 6 * parameter_count(preset, sizes, vocab_size) + attention
    return per_char * T * presets.find(preset).options.batch_size


@functools.cache
def _seconds_per_operation() -> float:
    text = "The quick brown fox jumps over the lazy dog. " * 200
    preset = presets.find("small")
    tokenizer = CharTokenizer.from_text(text)
    model = checkpoints.build(preset.architecture, tokenizer, preset.sizes, seed=0)
    trainer = Trainer(model, Corpus(text, "a trial"), preset.options)
    trainer.train_step()
    trials = []
    for _ in range(3):
        start = time.perf_counter()
        trainer.train_step()
        trials.append(time.perf_counter() - start)
    return min(trials) / _operations("small", {}, tokenizer.vocab_size)
