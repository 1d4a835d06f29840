"""Writing text with a model, one character at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from torch import Tensor

from charlm.engine.decoding import runner_for
from charlm.errors import CharlmError, check_range
from charlm.models import LanguageModel
from charlm.tokenizer import CharTokenizer

MAX_SEED = 2**63 - 1
MAX_TOP_K = 2**31


@dataclass(frozen=True)
class Step:
    """One written character and the distribution it was drawn from."""

    id: int
    """Of the character."""
    prob: float
    """Its probability, after temperature, top-k and top-p."""
    probs: np.ndarray = field(repr=False)
    """The probability of every character, (vocab_size,)."""
    logits: np.ndarray = field(repr=False)
    """What the model said, before temperature, top-k and top-p: (vocab_size,)."""
    uniform: float
    """The random number from 0 to 1 that chose the character: the first, in the order of the vocabulary, with
    which the probabilities sum to more."""
    tokenizer: CharTokenizer = field(repr=False)

    @property
    def char(self) -> str:
        """The character itself."""
        return self.tokenizer.vocab[self.id]

    @cached_property
    def alternatives(self) -> list[tuple[str, float]]:
        """The characters that could have been drawn, the likeliest first, with their probabilities."""
        ids = np.argsort(-self.probs, kind="stable")
        ranked = zip(ids.tolist(), self.probs[ids].tolist(), strict=True)
        return [(self.tokenizer.vocab[i], p) for i, p in ranked if p > 0]


@dataclass(frozen=True)
class SamplingOptions:
    """`temperature` 0 always takes the likeliest character; `top_k` keeps the k likeliest, `top_p`
    the fewest whose probabilities reach p (Holtzman et al., 2019); None keeps all.

    Raises `CharlmError` for a value outside its range.
    """

    max_new_chars: int = 200
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.max_new_chars < 1:
            raise CharlmError(f"max_new_chars must be at least 1, not {self.max_new_chars}.")
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise CharlmError(f"temperature must be 0 or more, not {self.temperature}.")
        if self.top_k is not None and self.top_k < 1:
            raise CharlmError(f"top_k must be at least 1, not {self.top_k}.")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise CharlmError(f"top_p must be above 0 and at most 1, not {self.top_p}.")
        if self.seed is not None:
            check_range("seed", self.seed, 0, MAX_SEED)


def next_char_probs(
    logits: np.ndarray | Tensor,
    temperature: float | np.ndarray = 1.0,
    top_k: int | np.ndarray | None = None,
    top_p: float | np.ndarray | None = None,
) -> np.ndarray:
    """Logits (…, vocab_size) → the float64 probabilities, of the same shape, of the next character.

    Temperature first, then top-k, then top-p on what is left; what is cut off has probability 0.
    Settings for each row are arrays (…, 1).
    """
    # With the largest logit at 0, in double precision, no temperature is too small: at 1e-300, which
    # stands for 0, the likeliest character alone is left.
    scaled = np.asarray(logits, np.float64)
    scaled = (scaled - scaled.max(-1, keepdims=True)) / np.maximum(temperature, 1e-300)
    probs = _normalised(np.exp(scaled))
    if top_k is None and top_p is None:
        return probs
    ids = np.argsort(-probs, axis=-1, kind="stable")
    ordered = np.take_along_axis(probs, ids, -1)
    if top_k is not None:
        ordered = np.where(np.arange(ordered.shape[-1]) < top_k, ordered, 0)
    if top_p is not None:
        ordered = _normalised(ordered)
        ordered = np.where(ordered.cumsum(-1) - ordered < top_p, ordered, 0)
    np.put_along_axis(probs, ids, _normalised(ordered), -1)
    return probs


def _normalised(x: np.ndarray) -> np.ndarray:
    return x / x.sum(-1, keepdims=True)


class Sampler:
    """Draws the next character of several texts, each with its own settings and random numbers."""

    def __init__(self, options: list[SamplingOptions], generators: list[np.random.Generator]):
        self.generators = generators
        self.temperature = np.array([[o.temperature] for o in options])
        self.top_k = self.top_p = None
        if any(o.top_k is not None for o in options):
            self.top_k = np.array([[MAX_TOP_K if o.top_k is None else o.top_k] for o in options])
        if any(o.top_p is not None and o.top_p < 1 for o in options):
            self.top_p = np.array([[1.0 if o.top_p is None else o.top_p] for o in options])

    def draw(self, tokenizer: CharTokenizer, logits: np.ndarray) -> tuple[np.ndarray, list[Step]]:
        """Logits (n, vocab_size) → ids (n,) of the characters drawn, and a step for each."""
        probs = next_char_probs(logits, self.temperature, self.top_k, self.top_p)
        uniform = [generator.random() for generator in self.generators]
        reached = probs.cumsum(-1)
        ids = (reached <= np.array(uniform)[:, None] * reached[:, -1:]).sum(-1)
        drawn = probs[np.arange(len(ids)), ids].tolist()
        return ids, [
            Step(i, p, all_p, scores, number, tokenizer)
            for i, p, all_p, scores, number in zip(ids.tolist(), drawn, probs, logits, uniform, strict=True)
        ]


def stream(
    model: LanguageModel,
    prompt: str = "",
    *,
    max_new_chars: int = 200,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
) -> Iterator[Step]:
    """Continues `prompt` character by character; the same seed writes the same text.

    An empty prompt begins as after a line break. Raises `UnknownCharacterError` for a prompt with
    characters that the model does not know and `CharlmError` for a setting out of range, both at
    once, before the first character is asked for.
    """
    options = SamplingOptions(max_new_chars, temperature, top_k, top_p, seed)
    return _stream(model, prompt_ids(model.tokenizer, prompt), options)


def prompt_ids(tokenizer: CharTokenizer, prompt: str) -> list[int]:
    """The ids to write on from. A line break stands in for an empty prompt, or the first character of
    the vocabulary. Raises `UnknownCharacterError`."""
    return tokenizer.encode(prompt or ("\n" if "\n" in tokenizer.vocab else tokenizer.vocab[0]))


def _stream(model: LanguageModel, ids: list[int], options: SamplingOptions) -> Iterator[Step]:
    sampler = Sampler([options], [np.random.default_rng(options.seed)])
    runner = runner_for(model)
    logits = runner.prefill(0, np.array(ids))[None]
    for written in range(1, options.max_new_chars + 1):
        drawn, steps = sampler.draw(model.tokenizer, logits)
        yield from steps
        if written < options.max_new_chars:
            logits = runner.step(drawn)
