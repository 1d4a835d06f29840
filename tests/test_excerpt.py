"""The text that travels with a model."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from conftest import make_model

from charlm import CharlmError, Corpus
from charlm.models import LanguageModel, build
from charlm.tokenizer import CharTokenizer, UnknownCharacterError
from charlm.training import excerpt as excerpts
from charlm.training.evaluation import bigram_counts, counted_bigram_loss, evaluate
from charlm.training.excerpt import BLOCKS, EXCERPT, MAX_CHARS, Excerpt, make_excerpt
from charlm.training.trainer import Trainer, TrainingOptions


def make(corpus: Corpus, model: LanguageModel) -> Excerpt:
    return make_excerpt(corpus, model, corpus.split(model.tokenizer)[0])


@pytest.mark.parametrize("length", [17, 40, 24 * 16, 24 * 16 + 1, 1000])
def test_its_blocks_are_spread_evenly(length: int):
    """The validation split has each character once, so that a block tells where it begins."""
    text = "".join(map(chr, range(100, 100 + length)))
    corpus = Corpus(" " * 9 * length + text, "numbers")
    model = build("bigram", CharTokenizer.from_text(corpus.text), {"block_size": 16}, seed=1)
    blocks = make(corpus, model).blocks
    assert len(blocks) == min(BLOCKS, (len(text) - 1) // 16)
    assert all(block in text and len(block) == 17 for block in blocks)
    starts = torch.tensor([text.index(block[0]) for block in blocks])
    assert starts[0] == 0
    assert len(starts.diff().unique()) <= 1 and (starts.diff() >= 16).all()
    if len(blocks) > 1:
        assert len(text) - 1 - starts[-1] < 2 * (starts[1] - starts[0])


def test_a_text_that_is_too_short_for_a_block(tokenizer: CharTokenizer, corpus: Corpus):
    short = Corpus(corpus.text[:160], "short")
    with pytest.raises(CharlmError, match="need 17 characters: this text has 16"):
        make(short, make_model(tokenizer))


def test_the_loss_is_that_of_the_blocks(
    trained: LanguageModel, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
):
    """In several pieces, the last of another size."""
    monkeypatch.setattr(excerpts, "CHARS_AT_ONCE", 5 * 16)
    excerpt = make(corpus, trained)
    assert len(excerpt.blocks) % 5
    ids = [torch.tensor(trained.tokenizer.encode(block)) for block in excerpt.blocks]
    losses = [evaluate(trained, block) for block in ids]
    assert excerpt.loss(trained) == pytest.approx(sum(losses) / len(losses), abs=1e-6)
    counts = bigram_counts(corpus.split(trained.tokenizer)[0], trained.config.vocab_size) + 1
    losses = [counted_bigram_loss(counts, block) for block in ids]
    assert excerpt.bigram == pytest.approx(sum(losses) / len(losses))
    name = f"{len(excerpt.blocks)} × 16 characters of the validation split of colours"
    assert excerpt.description == name
    with pytest.raises(UnknownCharacterError):
        Excerpt("x", ("é" * 17,), None).loss(trained)


def test_a_large_model_reads_less(tokenizer: CharTokenizer, corpus: Corpus, monkeypatch: pytest.MonkeyPatch):
    model = make_model(tokenizer)
    whole = make(corpus, model)
    assert len(whole.blocks) == BLOCKS and whole.fitted(model) is whole
    monkeypatch.setattr(excerpts, "MAX_PRODUCTS", 4.5 * 16 * model.parameter_count())
    assert len(make(corpus, model).blocks) == 4
    fitted = whole.fitted(model)
    assert fitted.blocks == whole.blocks[::6]
    assert fitted.bigram is None
    monkeypatch.setattr(excerpts, "MAX_PRODUCTS", 1.0)
    assert make(corpus, model).blocks == whole.blocks[:1]


def test_a_model_with_long_blocks_reads_fewer(tokenizer: CharTokenizer, corpus: Corpus):
    model = build("bigram", tokenizer, {"block_size": 700}, seed=1)
    long = Corpus(corpus.text * 60, "long")
    blocks = make(long, model).blocks
    assert len(blocks) == MAX_CHARS // 701
    assert Excerpt.from_json(make(long, model).to_json()) is not None
    shorter = make(long, model).fitted(make_model(tokenizer))
    assert shorter.blocks == tuple(block[:17] for block in blocks)


def test_a_trained_model_has_it_in_its_record(corpus: Corpus, tokenizer: CharTokenizer):
    trainer = Trainer(make_model(tokenizer), corpus, TrainingOptions(steps=1, batch_size=2))
    next(iter(trainer.run()))
    record = trainer.record("test")
    assert Excerpt.from_json(record[EXCERPT]) == make(corpus, trainer.model)


GOOD: dict[str, Any] = {"data": "x", "blocks": ["abc", "bcd"], "bigram": 2.5}


@pytest.mark.parametrize(
    "change",
    [
        {"data": 3},
        {"data": "x" * 201},
        {"blocks": "abc"},
        {"blocks": []},
        {"blocks": ["abc", "ab"]},
        {"blocks": ["a"]},
        {"blocks": ["abc", 3]},
        {"blocks": ["abc"] * 25},
        {"blocks": ["a" * 3200] * 2},
        {"bigram": "2"},
        {"bigram": math.nan},
        {"bigram": -1.0},
        {"bigram": 1e9},
        {"more": 1},
    ],
)
def test_what_is_no_excerpt_is_none(change: dict[str, Any]):
    assert Excerpt.from_json(GOOD) == Excerpt("x", ("abc", "bcd"), 2.5)
    assert Excerpt.from_json(GOOD | change) is None
    assert Excerpt.from_json(list(GOOD)) is None
