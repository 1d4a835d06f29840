"""Writing text with a model, one character at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from charlm.errors import CharlmError
from charlm.models import LanguageModel
from charlm.tokenizer import CharTokenizer

MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class Step:
    """One written character and the distribution it was drawn from."""

    char: str
    prob: float
    """Its probability, after temperature, top-k and top-p."""
    probs: Tensor = field(repr=False)
    """The probability of every character, (vocab_size,)."""
    tokenizer: CharTokenizer = field(repr=False)

    @cached_property
    def alternatives(self) -> list[tuple[str, float]]:
        """The characters that could have been drawn, the likeliest first, with their probabilities."""
        probs, ids = self.probs.sort(descending=True, stable=True)
        ranked = zip(probs.tolist(), ids.tolist(), strict=True)
        return [(self.tokenizer.vocab[i], p) for p, i in ranked if p > 0]


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
        if self.seed is not None and not 0 <= self.seed <= MAX_SEED:
            raise CharlmError(f"seed must be from 0 to {MAX_SEED}, not {self.seed}.")


def next_char_probs(
    logits: Tensor, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Tensor:
    """Logits (vocab_size,) → the float64 probabilities (vocab_size,) that the next character is drawn from.

    Temperature first, then top-k, then top-p on what is left; what is cut off has probability 0.
    """
    if temperature == 0:
        return torch.zeros_like(logits, dtype=torch.float64).index_fill_(0, logits.argmax(), 1.0)
    # With the largest logit at 0, in double precision, no temperature above 0 is too small.
    probs = ((logits - logits.max()).double() / temperature).softmax(dim=-1)
    if top_k is None and top_p is None:
        return probs
    ordered, ids = probs.sort(descending=True, stable=True)
    if top_k is not None:
        ordered[top_k:] = 0
    if top_p is not None:
        ordered /= ordered.sum()
        ordered[ordered.cumsum(0) - ordered >= top_p] = 0
    return torch.zeros_like(probs).index_put_((ids,), ordered / ordered.sum())


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
    ids = model.tokenizer.encode(prompt) or model.tokenizer.encode(default_start(model.tokenizer))
    return _stream(model, ids, options)


def default_start(tokenizer: CharTokenizer) -> str:
    """What stands in for an empty prompt: a line break, or the first character of the vocabulary."""
    return "\n" if "\n" in tokenizer.vocab else tokenizer.vocab[0]


def _stream(model: LanguageModel, ids: list[int], options: SamplingOptions) -> Iterator[Step]:
    generator = torch.Generator()
    if options.seed is None:
        generator.seed()
    else:
        generator.manual_seed(options.seed)
    model.eval()
    cache = model.new_cache()
    idx = torch.tensor([ids], device=model.device)
    for _ in range(options.max_new_chars):
        # A generator shares its thread with its caller between two yields: no_grad must not outlive one.
        with torch.inference_mode():
            logits = model.decode(idx, cache)[0].cpu()
            probs = next_char_probs(logits, options.temperature, options.top_k, options.top_p)
            i = int(torch.multinomial(probs, 1, generator=generator))
        idx = torch.tensor([[i]], device=model.device)
        yield Step(model.tokenizer.vocab[i], probs[i].item(), probs, model.tokenizer)
