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
MAX_TOP_K = 2**31


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
    logits: Tensor,
    temperature: float | Tensor = 1.0,
    top_k: int | Tensor | None = None,
    top_p: float | Tensor | None = None,
) -> Tensor:
    """Logits (…, vocab_size) → the float64 probabilities, of the same shape, of the next character.

    Temperature first, then top-k, then top-p on what is left; what is cut off has probability 0.
    Settings for each row are tensors (…, 1).
    """
    # With the largest logit at 0, in double precision, no temperature is too small: at 1e-300, which
    # stands for 0, the likeliest character alone is left.
    scaled = (logits - logits.amax(-1, keepdim=True)).double()
    temperature = torch.as_tensor(temperature, dtype=torch.float64).clamp(min=1e-300)
    probs = (scaled / temperature).softmax(dim=-1)
    if top_k is None and top_p is None:
        return probs
    ordered, ids = probs.sort(dim=-1, descending=True, stable=True)
    if top_k is not None:
        ordered = ordered.where(torch.arange(ordered.shape[-1]) < top_k, 0)
    if top_p is not None:
        ordered = ordered / ordered.sum(dim=-1, keepdim=True)
        ordered = ordered.where(ordered.cumsum(-1) - ordered < top_p, 0)
    return torch.zeros_like(probs).scatter_(-1, ids, ordered / ordered.sum(dim=-1, keepdim=True))


class Sampler:
    """Draws the next character of several texts, each with its own settings and its own luck."""

    def __init__(self, options: list[SamplingOptions], generators: list[torch.Generator]):
        self.generators = generators
        self.temperature = torch.tensor([[o.temperature] for o in options], dtype=torch.float64)
        self.top_k = self.top_p = None
        if any(o.top_k is not None for o in options):
            self.top_k = torch.tensor([[MAX_TOP_K if o.top_k is None else o.top_k] for o in options])
        if any(o.top_p is not None and o.top_p < 1 for o in options):
            self.top_p = torch.tensor([[1.0 if o.top_p is None else o.top_p] for o in options])

    def draw(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (n, vocab_size) → ids (n,) and the probabilities (n, vocab_size) they are drawn from."""
        probs = next_char_probs(logits, self.temperature, self.top_k, self.top_p)
        luck = torch.cat([torch.rand(1, generator=g, dtype=torch.float64) for g in self.generators])
        reached = probs.cumsum(dim=-1)
        ids = torch.searchsorted(reached, luck[:, None] * reached[:, -1:], right=True)[:, 0]
        return ids, probs


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


def new_generator(seed: int | None) -> torch.Generator:
    """A source of random numbers: the same for the same seed, another each time for None."""
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return generator


def steps_of(tokenizer: CharTokenizer, ids: Tensor, probs: Tensor) -> list[Step]:
    """What `Sampler.draw` gave, a step for each text."""
    drawn = probs.gather(1, ids[:, None])[:, 0].tolist()
    return [
        Step(tokenizer.vocab[i], p, row, tokenizer)
        for i, p, row in zip(ids.tolist(), drawn, probs, strict=True)
    ]


def _stream(model: LanguageModel, ids: list[int], options: SamplingOptions) -> Iterator[Step]:
    sampler = Sampler([options], [new_generator(options.seed)])
    # A generator shares its thread with its caller between two yields: inference_mode must not outlive one.
    with torch.inference_mode():
        decoder = model.decoder()
        logits = decoder.read(0, torch.tensor(ids, device=model.device))[None]
    for written in range(1, options.max_new_chars + 1):
        with torch.inference_mode():
            drawn, probs = sampler.draw(logits.cpu())
        yield from steps_of(model.tokenizer, drawn, probs)
        if written < options.max_new_chars:
            with torch.inference_mode():
                logits = decoder.step(drawn.to(model.device))
