"""The numbers of the Bigram tab: what is learned, counted, drawn and written."""

from __future__ import annotations

import base64
import json
import math

import numpy as np
import pytest
import torch

import charlm
from charlm import Corpus
from charlm.engine.sampling import stream
from charlm.errors import CharlmError
from charlm.models import BigramLanguageModel, build
from charlm.service.limits import MAX_VOCAB_SIZE
from charlm.tokenizer import CharTokenizer
from charlm.training.evaluation import bigram_counts, counted_bigram_loss, evaluate
from charlm.training.trainer import Trainer, TrainingOptions
from charlm.ui.bigram import numbers as bigram


@pytest.fixture(scope="module")
def counted(corpus: Corpus, tokenizer: CharTokenizer) -> BigramLanguageModel:
    """A bigram after three steps, with its record."""
    trainer = Trainer(build("bigram", tokenizer, {}, seed=1), corpus, TrainingOptions(steps=3, eval_blocks=2))
    list(trainer.run())
    trained = trainer.average.rounded()
    trained.record = trainer.record("test") | trainer.losses()
    return trained


@pytest.fixture(scope="module")
def large() -> BigramLanguageModel:
    """As many characters as a model here may have: the later ones of the vocabulary are the commoner."""
    V = MAX_VOCAB_SIZE
    model = build("bigram", CharTokenizer("".join(chr(0x4E00 + i) for i in range(V))), {}, seed=1)
    counts = torch.arange(V)[:, None] + torch.zeros(V, V, dtype=torch.long)
    model.record = {"bigram_counts": counts.tolist(), "val_loss": 5.0}
    return model


def numbers_of(text: str, dtype: type) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype)


def test_tables_and_losses_are_what_their_lines_give(counted: BigramLanguageModel, corpus: Corpus):
    tokenizer = counted.tokenizer
    train, val = corpus.split(tokenizer)
    (i,) = tokenizer.encode("T")
    names = {"model": counted, "train": train, "val": val, "vocab_size": tokenizer.vocab_size, "i": i}
    scope = {"torch": torch, "temperature": 0.5, **names}
    with torch.no_grad():
        exec(bigram.LINES, scope)
    learned, frequencies = bigram.tables(counted)
    assert torch.allclose(learned.float(), scope["learned"])
    assert torch.allclose(frequencies.float(), scope["counted"].nan_to_num())
    shown = {row["char"]: row for row in bigram.next_chars(counted, "T", 0.5)}
    for j, other in enumerate(tokenizer.vocab):
        assert shown[other]["prob"] == pytest.approx(scope["next_char"](i)[j].item(), abs=1e-6)
        assert shown[other]["counted"] == pytest.approx(frequencies[i, j].item())
        assert shown[other]["count"] == scope["counts"][i, j]
    losses = bigram.losses(counted)
    assert losses["uniform"] == math.log(tokenizer.vocab_size)
    assert losses["learned"] == pytest.approx(evaluate(counted, val))
    assert losses["counted"] == pytest.approx(scope["val_loss"].item(), abs=1e-5)
    assert len(scope["written"]) == 1 + bigram.WRITTEN_CHARS


def test_losses_on_the_training_split(counted: BigramLanguageModel, corpus: Corpus):
    train, _ = corpus.split(counted.tokenizer)
    losses = bigram.training_losses(counted)
    counts = bigram_counts(train, counted.config.vocab_size)
    assert losses["counted"] == pytest.approx(counted_bigram_loss(counts, train))
    assert losses["learned"] == pytest.approx(evaluate(counted, train), abs=1e-5)
    assert losses["counted"] < losses["learned"]


def test_what_the_page_says_of_the_committed_table():
    value = bigram.losses_value(charlm.load("bigram"))
    assert (value["zeros"], value["cells"]) == (2845, 4225)
    assert value["validation"]["counted"] == pytest.approx(2.482, abs=5e-4)


def test_a_loss_that_a_record_does_not_tell_is_left_out(counted: BigramLanguageModel):
    model = counted.rounded()
    model.record = counted.record | {"val_loss": 0.0, "counted_bigram_loss": "<i>"}
    assert list(bigram.losses(model)) == ["uniform"]


@pytest.mark.parametrize("counts", [None, "<i>", [[1, 2], [3]], [[1]], "negative", "infinite"])
def test_a_bigram_without_counts_is_told(counts: object, counted: BigramLanguageModel):
    V = counted.config.vocab_size
    model = counted.rounded()
    wrong = {"negative": [[-1] * V] * V, "infinite": [[math.inf] * V] * V}
    model.record = counted.record | {"bigram_counts": wrong.get(str(counts), counts)}
    with pytest.raises(CharlmError, match="without the counts"):
        bigram.tables_value(model)


def test_the_grid_holds_what_its_sentences_say(counted: BigramLanguageModel):
    learned, frequencies = bigram.tables(counted)
    value = bigram.tables_value(counted)
    n = len(value["chars"])
    assert "".join(value["chars"]) == "".join(counted.tokenizer.vocab)
    probs = numbers_of(value["learned"], np.float32).reshape(n, n)
    assert np.allclose(probs, learned)
    softmax = np.exp(numbers_of(value["logits"], np.float32).reshape(n, n).T - value["log_sums"]).T
    assert np.allclose(softmax, probs, atol=1e-6)
    shares = numbers_of(value["counts"], np.float64).reshape(n, n) / np.maximum(1, value["seen"])[:, None]
    assert np.allclose(shares, frequencies)


def test_a_large_vocabulary_shows_its_commonest_characters(large: BigramLanguageModel):
    value = bigram.tables_value(large)
    assert value["chars"] == list(large.tokenizer.vocab)[-bigram.MAX_SHOWN :]
    assert value["vocab_size"] == MAX_VOCAB_SIZE
    assert value["seen"][-1] == (MAX_VOCAB_SIZE - 1) * MAX_VOCAB_SIZE, "over all characters, not those shown"
    following = bigram.following_value(large, value["chars"][0], 1)
    assert following["more"] == MAX_VOCAB_SIZE - bigram.SHOWN_NEXT
    assert sum(row["prob"] for row in following["rows"]) + following["rest"] == pytest.approx(1)
    assert len(json.dumps([value, following])) < 300_000


@pytest.mark.parametrize("temperature", [0, 1e-300, 0.05, 0.7, 3])
def test_a_bar_is_what_its_sentence_says(temperature: float, counted: BigramLanguageModel):
    value = bigram.following_value(counted, "T", temperature)
    json.dumps(value, allow_nan=False)
    if value["log_sum"] is not None:
        for row in value["rows"]:
            p = math.exp(row["logit"] / temperature - value["log_sum"])
            assert row["prob"] == pytest.approx(p, abs=1e-6)
    else:
        assert temperature < 1e-9
        assert value["rows"][0]["prob"] == 1


def test_the_first_character(counted: BigramLanguageModel, large: BigramLanguageModel):
    assert bigram.first_char(charlm.load("bigram"), None) == "t"
    assert bigram.first_char(charlm.load("bigram"), "Z") == "Z"
    assert bigram.first_char(counted, "é") == "t"
    assert bigram.first_char(large, "Z") == large.tokenizer.vocab[-1]


@pytest.mark.parametrize("temperature", [0, 0.5, 2])
def test_the_walk_is_the_samplers_and_each_step_is_a_cell(temperature: float, counted: BigramLanguageModel):
    steps = bigram.write(counted, "T", temperature, seed=5)["steps"]
    again = list(stream(counted, "T", max_new_chars=20, temperature=temperature, seed=5))
    assert [step["char"] for step in steps] == [step.char for step in again]
    assert [step["before"] for step in steps] == ["T", *(step["char"] for step in steps[:-1])]
    for step in steps:
        row = {r["char"]: r["prob"] for r in bigram.next_chars(counted, step["before"], temperature)}
        assert step["prob"] == pytest.approx(row[step["char"]])
        assert 0 <= step["uniform"] < 1


@pytest.mark.parametrize("char", ["", "Th", "é"])
def test_what_is_no_character_of_the_model_is_told(char: str, counted: BigramLanguageModel):
    for compute in (bigram.next_chars, bigram.write):
        with pytest.raises(CharlmError):
            compute(counted, char, 1.0)
