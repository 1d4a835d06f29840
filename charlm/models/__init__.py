"""The models: `bigram` and `attention`. They know nothing of files, training or the page."""

from charlm.models.attention import AttentionConfig, AttentionLanguageModel
from charlm.models.base import LanguageModel
from charlm.models.bigram import BigramConfig, BigramLanguageModel

__all__ = [
    "AttentionConfig",
    "AttentionLanguageModel",
    "BigramConfig",
    "BigramLanguageModel",
    "LanguageModel",
]
