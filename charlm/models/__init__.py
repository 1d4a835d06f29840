"""The models, in the lecture's order: `bigram`, `attention`, `transformer`, `gpt`. Plain
PyTorch that knows nothing of files, engines, training or the page."""

from __future__ import annotations

from typing import Any

import torch

from charlm.models.attention import AttentionConfig, AttentionLanguageModel
from charlm.models.base import LanguageModel
from charlm.models.bigram import BigramConfig, BigramLanguageModel
from charlm.models.gpt import GPT, GPTConfig
from charlm.models.parts import Parts
from charlm.models.transformer import Transformer, TransformerConfig
from charlm.tokenizer import CharTokenizer

__all__ = [
    "ARCHITECTURES",
    "GPT",
    "AttentionConfig",
    "AttentionLanguageModel",
    "BigramConfig",
    "BigramLanguageModel",
    "GPTConfig",
    "LanguageModel",
    "Parts",
    "Transformer",
    "TransformerConfig",
    "build",
]

ARCHITECTURES: dict[str, type[LanguageModel]] = {
    "bigram": BigramLanguageModel,
    "attention": AttentionLanguageModel,
    "transformer": Transformer,
    "gpt": GPT,
}


def build(architecture: str, tokenizer: CharTokenizer, sizes: dict[str, Any], seed: int) -> LanguageModel:
    """A new model of `architecture` with random weights, the same for the same seed.

    `sizes` are the fields of its configuration but `vocab_size`. Raises `CharlmError` if they do
    not fit together.
    """
    model_type = ARCHITECTURES[architecture]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = model_type(model_type.config_type(vocab_size=tokenizer.vocab_size, **sizes))
    model.tokenizer = tokenizer
    return model
