from __future__ import annotations

import time
from itertools import takewhile
from pathlib import Path

import pytest
import torch
from conftest import make_model

from charlm import CharlmError, Corpus, evaluate
from charlm.models import LanguageModel, build
from charlm.tokenizer import CharTokenizer
from charlm.training.evaluation import bigram_counts, counted_bigram_loss
from charlm.training.trainer import Trainer, TrainingOptions

OPTIONS = TrainingOptions(steps=12, batch_size=4, eval_interval=5, eval_blocks=2, warmup_steps=3)


def new_trainer(corpus: Corpus, tokenizer: CharTokenizer, options: TrainingOptions = OPTIONS) -> Trainer:
    return Trainer(make_model(tokenizer, dropout=0.1), corpus, options)


def weights(model: LanguageModel) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


def test_progress_events(corpus: Corpus, tokenizer: CharTokenizer):
    events = list(new_trainer(corpus, tokenizer).run())
    assert [e.step for e in events] == list(range(13))
    assert [e.step for e in events if e.evaluation] == [0, 5, 10, 12]
    assert len(events[-1].evaluation.sample) == 200
    assert events[-1].chars_per_second > 0
    assert events[-1].seconds >= events[0].seconds


def test_training_learns(trained: LanguageModel, corpus: Corpus, tokenizer: CharTokenizer):
    train, val = corpus.split(tokenizer)
    assert (
        evaluate(trained, val)
        < counted_bigram_loss(bigram_counts(train, tokenizer.vocab_size) + 0.01, val) - 0.3
    )


def test_same_seed_same_result(corpus: Corpus, tokenizer: CharTokenizer):
    first, second = new_trainer(corpus, tokenizer), new_trainer(corpus, tokenizer)
    list(first.run()), list(second.run())
    assert same(weights(first.average), weights(second.average))


def test_resuming_gives_what_an_uninterrupted_run_gives(
    corpus: Corpus, tokenizer: CharTokenizer, tmp_path: Path
):
    whole = new_trainer(corpus, tokenizer)
    list(whole.run())
    stopped = new_trainer(corpus, tokenizer)
    list(takewhile(lambda progress: progress.step < 7, stopped.run()))
    stopped.save(tmp_path / "state")
    resumed = new_trainer(corpus, tokenizer)
    resumed.restore(tmp_path / "state")
    assert resumed.step == 7
    list(resumed.run())
    assert same(weights(whole.model), weights(resumed.model))
    assert same(weights(whole.average), weights(resumed.average))
    assert [point[:3] for point in resumed.curve] == [point[:3] for point in whole.curve]


def test_a_state_of_another_run_is_refused(corpus: Corpus, tokenizer: CharTokenizer, tmp_path: Path):
    new_trainer(corpus, tokenizer).save(tmp_path / "state")
    other = new_trainer(corpus, tokenizer, TrainingOptions(steps=13))
    with pytest.raises(CharlmError, match="another run: its options"):
        other.restore(tmp_path / "state")
    (tmp_path / "state").write_bytes(b"not a state")
    with pytest.raises(CharlmError, match="not the state of a training run"):
        other.restore(tmp_path / "state")


def test_a_text_too_short_for_a_validation_chunk_is_refused(tokenizer: CharTokenizer):
    with pytest.raises(CharlmError, match="need 17 characters: this text has 5"):
        new_trainer(Corpus("A" * 50, "short"), tokenizer)


def test_bigram_reaches_the_counted_optimum(corpus: Corpus, tokenizer: CharTokenizer):
    model = build("bigram", tokenizer, {"block_size": 32}, seed=1)
    options = TrainingOptions(steps=400, batch_size=64, learning_rate=0.1, warmup_steps=0, eval_interval=400)
    trainer = Trainer(model, corpus, options)
    list(trainer.run())
    counts = bigram_counts(trainer.train_data, tokenizer.vocab_size)
    optimum = counted_bigram_loss(counts, trainer.train_data)
    assert optimum <= evaluate(trainer.average, trainer.train_data) < optimum + 0.01


def test_a_time_limit_ends_a_run(corpus: Corpus, tokenizer: CharTokenizer):
    options = TrainingOptions(
        steps=10**6, seconds=0.5, batch_size=4, eval_interval=10**6, eval_blocks=2, warmup_steps=3
    )
    trainer = new_trainer(corpus, tokenizer, options)
    last = list(trainer.run())[-1]
    assert last.done == 1
    assert 0 < trainer.step < 10**6


def test_a_rate_is_never_negative_however_long_an_evaluation_took(corpus: Corpus, tokenizer: CharTokenizer):
    trainer = new_trainer(corpus, tokenizer, TrainingOptions(steps=10, seconds=1.0, batch_size=4))
    trainer.seconds = 1.5
    trainer.train_step()
    assert all(group["lr"] == 0 for optimizer in trainer.optimizers for group in optimizer.param_groups)


def test_a_batch_that_cannot_be_shared_is_refused(
    corpus: Corpus, tokenizer: CharTokenizer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("charlm.training.distributed.world_size", lambda: 3)
    with pytest.raises(CharlmError, match=r"batch_size \(4\) must be a multiple of the number of processes"):
        new_trainer(corpus, tokenizer)


def test_a_vocabulary_of_one_character_trains_and_samples():
    corpus = Corpus("A" * 400, "one letter")
    trainer = new_trainer(corpus, CharTokenizer.from_text(corpus.text))
    last = list(trainer.run())[-1]
    assert last.evaluation.val_loss == 0
    assert last.evaluation.sample == "A" * 200


def test_validation_may_have_characters_that_training_lacks():
    corpus = Corpus("ab" * 450 + "xyz" * 34, "new letters at the end")
    tokenizer = CharTokenizer.from_text(corpus.text)
    assert set(corpus.train_text) < set(corpus.val_text) | set("ab")
    trainer = new_trainer(corpus, tokenizer)
    last = list(trainer.run())[-1]
    assert 0 < last.evaluation.train_loss < last.evaluation.val_loss < 100
    assert evaluate(trainer.average, trainer.val_data) > 0
    assert all(0 < loss < 100 for loss in trainer.baselines().values())


def test_the_time_of_a_run_is_its_own(
    corpus: Corpus, tokenizer: CharTokenizer, monkeypatch: pytest.MonkeyPatch
):
    passed, clock = [0.0], time.perf_counter
    monkeypatch.setattr(time, "perf_counter", lambda: clock() + passed[0])
    seconds = []
    for progress in new_trainer(corpus, tokenizer).run():
        seconds.append(progress.seconds)
        passed[0] += 1000  # Others have their turn.
    assert 0 < seconds[-1] < 1000
