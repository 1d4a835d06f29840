"""What a change costs a model, and what its heads are worth, as the page asks for it: without a corpus."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from conftest import make_model, wait_for

from charlm import CharlmError, Corpus, checkpoints
from charlm.models import LanguageModel
from charlm.service import heads, limits
from charlm.service.heads import GONE, ONE_AT_A_TIME
from charlm.service.models import NO_SUCH_MODEL, ModelService
from charlm.surgery.heads import HEADS, measure, to_json
from charlm.tokenizer import CharTokenizer
from charlm.training.excerpt import EXCERPT, Excerpt, make_excerpt


@pytest.fixture(autouse=True)
def no_corpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CHARLM_DATA", str(tmp_path / "nothing.txt"))


@pytest.fixture
def colours(trained: LanguageModel, corpus: Corpus) -> Excerpt:
    return make_excerpt(corpus, trained, corpus.split(trained.tokenizer)[0])


@pytest.fixture
def add(service: ModelService, tmp_path: Path) -> Any:
    """Makes a model a visitor's own, with a record."""

    def add(visitor: str, model: LanguageModel, **record: Any) -> str:
        checkpoints.save(model, record, tmp_path / "brought")
        checkpoints.pack(tmp_path / "brought", tmp_path / "brought.zip")
        return service.add_zip(visitor, "mine", tmp_path / "brought.zip")

    return add


@pytest.fixture
def own(add: Any, ann: str, trained: LanguageModel, colours: Excerpt) -> str:
    """A model of Ann's that was trained on colours."""
    return str(add(ann, trained, **{EXCERPT: colours.to_json()}))


def test_the_loss_of_a_committed_model_is_measured_on_what_comes_with_it(service: ModelService):
    known = service.heads("attention")
    assert known is not None
    assert service.excerpt("attention").description == (
        "24 × 64 characters of the validation split of Tiny Shakespeare"
    )
    assert service.loss("attention") == pytest.approx(known.ranking.loss, abs=1e-4)
    silent = service.loss("attention/1.1:silent") - known.ranking.loss
    assert silent == pytest.approx(known.ranking.silent[0][0], abs=2e-4)
    assert service.bigram_loss("attention/1.1:silent") == known.ranking.bigram
    assert 2.4 < service.loss("bigram") < 2.6
    for name, sentence in (
        ("nobody", NO_SUCH_MODEL),
        ("attention/9.1:silent", "no layer 9"),
        ("attention/x", "no edit"),
    ):
        with pytest.raises(CharlmError, match=sentence):
            service.loss(name)


def test_a_loss_is_computed_once(service: ModelService, monkeypatch: pytest.MonkeyPatch):
    """Also for several who ask at once; the latest are kept."""
    monkeypatch.setattr(limits, "MAX_LOSSES", 2)
    computed: list[LanguageModel] = []
    begun, go_on = threading.Event(), threading.Event()
    loss = Excerpt.loss

    def slow(excerpt: Excerpt, model: LanguageModel) -> float:
        computed.append(model)
        begun.set()
        assert go_on.wait(30)
        return loss(excerpt, model)

    monkeypatch.setattr(Excerpt, "loss", slow)
    answers = [service.submit(service.loss, "attention") for _ in range(2)]
    assert begun.wait(30)
    go_on.set()
    assert answers[0].result() == answers[1].result() == service.loss("attention")
    assert len(computed) == 1
    for name in ("attention/1.1:silent", "attention", "bigram", "attention"):
        service.loss(name)
    assert len(computed) == 3
    service.loss("attention/1.1:silent")
    assert len(computed) == 4


def test_a_loss_that_failed_is_computed_again(service: ModelService, monkeypatch: pytest.MonkeyPatch):
    def fail(excerpt: Excerpt, model: LanguageModel) -> float:
        raise MemoryError

    with monkeypatch.context() as context:
        context.setattr(Excerpt, "loss", fail)
        with pytest.raises(MemoryError):
            service.loss("attention")
    assert service.loss("attention") > 0


def test_ones_own_model_brings_its_text(service: ModelService, ann: str, own: str, colours: Excerpt):
    assert service.excerpt(own) == colours
    assert service.bigram_loss(own) == colours.bigram
    assert service.loss(own) == pytest.approx(colours.loss(service.get(own)))
    kept = service.keep_operated(ann, f"{own}/1.1:silent")
    assert service.excerpt(kept) == colours
    assert service.loss(kept) == pytest.approx(service.loss(f"{own}/1.1:silent"))


def test_a_committed_model_that_was_changed_and_kept_is_measured_as_before(service: ModelService, ann: str):
    kept = service.keep_operated(ann, "attention/1.1:silent")
    assert service.excerpt(kept) == service.excerpt("attention") != service.excerpt("gpt")
    assert service.loss(kept) == pytest.approx(service.loss("attention/1.1:silent"))


def test_an_old_model_is_measured_by_what_comes_with_charlm(service: ModelService, ann: str, add: Any):
    tokenizer = CharTokenizer(checkpoints.load("gpt").tokenizer.vocab + "é")
    old = make_model(tokenizer)
    name = add(ann, old)
    excerpt = service.excerpt(name)
    assert excerpt.blocks == tuple(block[:17] for block in service.excerpt("gpt").blocks)
    assert service.bigram_loss(name) is None
    assert service.loss(name) > 0
    foreign = add(ann, make_model(CharTokenizer("abc")))
    with pytest.raises(CharlmError, match="There is no text to measure this model by"):
        service.loss(foreign)


def test_what_a_stranger_calls_an_excerpt_is_checked(
    service: ModelService, ann: str, add: Any, trained: LanguageModel, colours: Excerpt
):
    """One of another kind is left out; one that the model cannot read is as good as none."""
    name = add(ann, trained, **{EXCERPT: {"data": "x", "blocks": ["a" * 10_000] * 30, "bigram": 2.0}})
    assert EXCERPT not in service.get(name).record
    name = add(ann, trained, **{EXCERPT: Excerpt("x", ("é" * 17,), 2.0).to_json()})
    with pytest.raises(CharlmError, match="There is no text"):
        service.loss(name)
    name = add(ann, trained, **{EXCERPT: Excerpt("x", ("a" * 100,), 2.0).to_json()})
    assert service.excerpt(name) == Excerpt("x", ("a" * 17,), None)


def test_heads_of_committed_models_are_known_at_once(service: ModelService):
    known = service.heads("gpt")
    assert known is not None and service.measure_heads("gpt").result() == known
    assert service.heads_progress("gpt") is None
    assert service.heads("bigram") is service.heads("nobody") is service.heads("gpt/5.4:silent") is None
    for name, sentence in (
        ("bigram", "no heads"),
        ("nobody", NO_SUCH_MODEL),
        ("gpt/5.4:silent", "once it is kept"),
    ):
        with pytest.raises(CharlmError, match=sentence):
            service.measure_heads(name)


def test_heads_of_ones_own_model_are_measured_in_the_background(
    service: ModelService, own: str, trained: LanguageModel, colours: Excerpt
):
    assert service.heads(own) is service.heads_progress(own) is None
    begun = service.measure_heads(own)
    assert service.measure_heads(own) is begun
    measured = begun.result(60)
    assert service.heads(own) == measured and service.measure_heads(own).result() == measured
    assert service.heads_progress(own) == 1
    assert to_json(measured) == to_json(measure(trained, colours, "", lambda done: None))


class Slow:
    """Measures as slowly as a test wants."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        monkeypatch.setattr(heads, "measure", self)

    def __call__(self, model: LanguageModel, excerpt: Excerpt, command: str, progress: Any) -> Any:
        progress(0.5)
        self.begun.set()
        assert self.go_on.wait(30)
        progress(0.75)
        return measure(model, excerpt, command, progress)


def test_nobody_waits_for_what_is_measured(
    service: ModelService,
    ann: str,
    bob: str,
    own: str,
    add: Any,
    trained: LanguageModel,
    colours: Excerpt,
    monkeypatch: pytest.MonkeyPatch,
):
    slow = Slow(monkeypatch)
    first = service.measure_heads(own)
    assert slow.begun.wait(30)
    assert service.heads_progress(own) == 0.5 and service.heads(own) is None
    assert service.loss(own) > 0
    assert service.compute(service.loss, f"{own}/1.1:silent") > 0
    another = add(ann, trained, **{EXCERPT: colours.to_json()})
    with pytest.raises(CharlmError, match=ONE_AT_A_TIME):
        service.measure_heads(another)
    waiting = service.measure_heads(add(bob, trained, **{EXCERPT: colours.to_json()}))
    assert not waiting.done() and not first.cancel()
    slow.go_on.set()
    assert first.result(60).ranking == waiting.result(60).ranking
    assert service.measure_heads(another).result(60)


def test_what_is_measured_goes_with_the_model(
    service: ModelService,
    ann: str,
    own: str,
    trained: LanguageModel,
    monkeypatch: pytest.MonkeyPatch,
):
    slow = Slow(monkeypatch)
    begun = service.measure_heads(own)
    assert slow.begun.wait(30)
    monkeypatch.setattr(limits, "MAX_OWN_MODELS", 1)
    service.keep_operated(ann, "attention/1.1:silent")
    assert service.find(own) is None
    slow.go_on.set()
    with pytest.raises(CharlmError, match=GONE):
        begun.result(60)
    assert service.heads(own) is service.heads_progress(own) is None


def test_what_could_not_be_measured_is_tried_again(
    service: ModelService, own: str, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: Any) -> Any:
        raise MemoryError

    with monkeypatch.context() as context:
        context.setattr(heads, "measure", fail)
        with pytest.raises(MemoryError):
            service.measure_heads(own).result(60)
    wait_for(lambda: service.heads_progress(own) is None)
    assert service.heads(own) is None
    assert service.measure_heads(own).result(60)


def test_a_shared_model_of_which_nothing_is_known_is_measured(
    trained: LanguageModel, colours: Excerpt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As one that somebody has trained into checkpoints/."""
    monkeypatch.setattr(checkpoints, "CHECKPOINTS", tmp_path)
    checkpoints.save(trained, {"data": "colours", EXCERPT: colours.to_json()}, tmp_path / "new")
    service = ModelService()
    try:
        assert service.heads("new") is None
        measured = service.measure_heads("new").result(60)
        assert service.heads("new") == measured
        (tmp_path / "new" / HEADS).write_text(json.dumps(to_json(measured)))
        assert service.excerpt("new") == colours
    finally:
        service.close()
