from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from conftest import make_model

from charlm import CharlmError, Corpus, evaluate
from charlm.models import LanguageModel, build
from charlm.tokenizer import CharTokenizer
from charlm.training.evaluation import bigram_counts, counted_bigram_loss


@pytest.mark.parametrize("length", [2, 16, 17, 18, 100, 16 * 40 + 1])
def test_every_character_but_the_first_is_scored_once(length: int, trained: LanguageModel):
    data = torch.randint(trained.config.vocab_size, (length,), generator=torch.Generator().manual_seed(0))
    total, scored = 0.0, 0
    for start in range(0, length - 1, 16):
        x, y = data[start : start + 16][: length - 1 - start], data[start + 1 : start + 17]
        total += F.cross_entropy(trained(x[None])[0][0], y, reduction="sum").item()
        scored += len(y)
    assert scored == length - 1
    assert evaluate(trained, data) == pytest.approx(total / scored, abs=1e-5)


def test_evaluation_ignores_dropout_and_leaves_the_mode_as_it_was(tokenizer: CharTokenizer, corpus: Corpus):
    model = make_model(tokenizer, dropout=0.5).train()
    _, val = corpus.split(tokenizer)
    assert evaluate(model, val) == evaluate(model, val)
    assert model.training


def test_a_single_character_has_no_loss(trained: LanguageModel):
    with pytest.raises(CharlmError, match="at least two"):
        evaluate(trained, torch.tensor([1]))


def test_counted_bigram_is_the_best_table():
    data = torch.tensor([0, 1, 0, 1, 0, 2, 0, 1])
    assert bigram_counts(data, 4)[0].tolist() == [0, 3, 1, 0]
    # After 0: 1 three times in four; after 1 and 2 always 0.
    expected = -(3 * math.log(3 / 4) + math.log(1 / 4)) / 7
    assert counted_bigram_loss(bigram_counts(data, 4), data) == pytest.approx(expected)


def test_the_counted_loss_is_what_evaluate_gives_for_that_table(corpus: Corpus, tokenizer: CharTokenizer):
    train, val = corpus.split(tokenizer)
    model = build("bigram", tokenizer, {}, seed=1)
    counts = bigram_counts(train, tokenizer.vocab_size) + 1
    with torch.no_grad():
        model.token_embedding_table.weight.copy_((counts / counts.sum(1, keepdim=True)).log())
    assert evaluate(model, val) == pytest.approx(counted_bigram_loss(counts, val), abs=1e-5)
