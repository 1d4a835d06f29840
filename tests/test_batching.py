"""Many texts at once with one model."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator

import pytest

from charlm import CharlmError, stream
from charlm.engine import decoding
from charlm.engine.decoding import AttentionRunner, runner_for
from charlm.engine.sampling import SamplingOptions, prompt_ids
from charlm.models import LanguageModel, build
from charlm.service import batching, limits
from charlm.service.batching import Batcher, Stream

SETTINGS = [
    SamplingOptions(60, temperature=0.8, seed=1),
    SamplingOptions(25, temperature=0, seed=2),
    SamplingOptions(90, temperature=1.3, top_k=5, seed=3),
    SamplingOptions(40, temperature=1.0, top_p=0.8, seed=4),
    SamplingOptions(1, seed=5),
    SamplingOptions(33, temperature=0.5, top_k=3, top_p=0.9, seed=6),
]


@pytest.fixture
def batcher(trained: LanguageModel) -> Iterator[Batcher]:
    streams: list[Stream] = []

    class Remembering(Batcher):
        def submit(self, *args) -> Stream:
            streams.append(super().submit(*args))
            return streams[-1]

    batcher = Remembering()
    batcher.model = trained
    yield batcher
    for s in streams:
        s.close()


def submit(batcher: Batcher, prompt: str, options: SamplingOptions, client: str = "") -> Stream:
    return batcher.submit(batcher.model, prompt_ids(batcher.model.tokenizer, prompt), options, client)


def text_of(steps: object) -> str:
    return "".join(step.char for step in steps)


def alone(model: LanguageModel, prompt: str, o: SamplingOptions) -> str:
    settings = {"temperature": o.temperature, "top_k": o.top_k, "top_p": o.top_p, "seed": o.seed}
    return text_of(stream(model, prompt, max_new_chars=o.max_new_chars, **settings))


@pytest.mark.parametrize("cores", [1, 2, 5])
def test_texts_written_together_are_those_written_alone(
    cores: int, batcher: Batcher, trained: LanguageModel, monkeypatch: pytest.MonkeyPatch
):
    """To the bit, on any number of processors."""
    monkeypatch.setattr(decoding, "CORES", cores)
    prompts = ["ANN", "BOB:\nThe", "", "E", "The sea is blue, and 7 of them I saw.\n" * 3, "x"]
    prompts = [trained.tokenizer.replace_unknown(prompt) for prompt in prompts]
    streams = [submit(batcher, p, o) for p, o in zip(prompts, SETTINGS, strict=True)]
    written = [text_of(s) for s in streams]
    assert written == [alone(trained, p, o) for p, o in zip(prompts, SETTINGS, strict=True)]


def test_a_late_comer_does_not_wait(batcher: Batcher):
    long = submit(batcher, "A", SamplingOptions(10**9, seed=1))
    assert long.take(timeout=60)
    assert len(list(submit(batcher, "B", SamplingOptions(20, seed=2)))) == 20
    assert not long.closed


def test_who_leaves_makes_room(batcher: Batcher, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "MAX_STREAMS", 2)
    endless = [submit(batcher, "A", SamplingOptions(10**9, seed=i)) for i in range(2)]
    waiting = [submit(batcher, "B", SamplingOptions(5, seed=i)) for i in range(3)]
    for s in endless:
        assert s.take(timeout=60)
    assert [s.place for s in waiting] == [1, 2, 3]
    assert [s.place for s in endless] == [0, 0]
    waiting[1].close()
    endless[0].close()
    assert len(list(waiting[0])) == 5
    assert list(waiting[1]) == []
    assert len(list(waiting[2])) == 5


def test_a_full_line_is_refused(batcher: Batcher, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "MAX_STREAMS", 1)
    monkeypatch.setattr(limits, "MAX_WAITING_STREAMS", 2)
    endless = submit(batcher, "A", SamplingOptions(10**9))
    assert endless.take(timeout=60)
    waiting = [submit(batcher, "B", SamplingOptions(3)) for _ in range(2)]
    with pytest.raises(CharlmError, match="Busy: too many texts are in line"):
        submit(batcher, "E", SamplingOptions(3))
    endless.close()
    assert [len(list(s)) for s in waiting] == [3, 3]


def test_places_are_shared_among_clients(batcher: Batcher, monkeypatch: pytest.MonkeyPatch):
    """One who takes all places, and the line, keeps nobody else from writing; what was put aside for others
    goes on as if it had never been."""
    monkeypatch.setattr(limits, "MAX_STREAMS", 3)
    monkeypatch.setattr(limits, "MAX_WAITING_STREAMS", 3)
    monkeypatch.setattr(batching, "TURN_CHARS", 10**9)
    long = SamplingOptions(3000, temperature=0.9, seed=7)
    greedy = [submit(batcher, "A", long, "greedy") for _ in range(3)]
    for s in greedy:
        assert s.take(timeout=60)
    greedy += [submit(batcher, "A", long, "greedy") for _ in range(3)]
    with pytest.raises(CharlmError, match="Busy"):
        submit(batcher, "A", long, "greedy")
    others = [submit(batcher, "B", SamplingOptions(20, seed=i), client) for i, client in enumerate("ab")]
    assert [len(list(s)) for s in others] == [20, 20]
    assert not any(s.closed for s in greedy[:4])
    with pytest.raises(CharlmError, match="Busy"):
        list(greedy[5])
    expected = alone(batcher.model, "A", long)
    for s in greedy[3:5]:
        s.close()
    assert {expected[-2000:] == text_of(s)[-2000:] for s in greedy[:3]} == {True}


@pytest.mark.parametrize("architecture", ["gpt", "bigram"])
def test_the_texts_of_one_client_take_turns(
    architecture: str, batcher: Batcher, monkeypatch: pytest.MonkeyPatch
):
    if architecture == "bigram":
        batcher.model = build("bigram", batcher.model.tokenizer, {}, seed=1)
    monkeypatch.setattr(limits, "MAX_STREAMS", 2)
    monkeypatch.setattr(batching, "TURN_CHARS", 20)
    long = SamplingOptions(400 if architecture == "gpt" else 4000, seed=3)
    streams = [submit(batcher, "A", long) for _ in range(5)]
    late = submit(batcher, "B", SamplingOptions(15, seed=4))
    assert text_of(late) == alone(batcher.model, "B", SamplingOptions(15, seed=4))
    assert not all(s.closed for s in streams)
    assert [text_of(s) for s in streams] == [alone(batcher.model, "A", long)] * 5


def test_a_line_of_texts_that_have_all_begun_lets_somebody_else_in(
    batcher: Batcher, monkeypatch: pytest.MonkeyPatch
):
    """One client's texts take turns, until all that wait have been written at before."""
    monkeypatch.setattr(limits, "MAX_STREAMS", 1)
    monkeypatch.setattr(limits, "MAX_WAITING_STREAMS", 3)
    monkeypatch.setattr(batching, "TURN_CHARS", 1)
    greedy = []
    for _ in range(4):
        greedy.append(submit(batcher, "A", SamplingOptions(10**9), "greedy"))
        assert greedy[-1].take(timeout=60)
    monkeypatch.setattr(limits, "MAX_WAITING_STREAMS", 2)  # whoever is on the way to a place does not wait
    assert len(list(submit(batcher, "B", SamplingOptions(5), "other"))) == 5


def test_shares_are_fair(batcher: Batcher):
    streams = [submit(batcher, "A", SamplingOptions(10**9, seed=i)) for i in range(8)]
    counts = [0] * 8
    for i, s in enumerate(streams):
        counts[i] += len(s.take(timeout=60))
    end = time.monotonic() + 1
    while time.monotonic() < end:
        for i, s in enumerate(streams):
            counts[i] += len(s.take(timeout=0.01))
    assert min(counts) >= sum(counts) / 8 / 2


def test_two_texts_of_the_bigram(batcher: Batcher):
    batcher.model = build("bigram", batcher.model.tokenizer, {}, seed=1)
    streams = [submit(batcher, "A", o) for o in SETTINGS]
    assert [text_of(s) for s in streams] == [alone(batcher.model, "A", o) for o in SETTINGS]


def test_a_failure_ends_the_texts_it_befell_and_no_more(batcher: Batcher, monkeypatch: pytest.MonkeyPatch):
    bigram = build("bigram", batcher.model.tokenizer, {}, seed=1)
    other = batcher.submit(bigram, [0], SamplingOptions(10**9, seed=1))
    endless = submit(batcher, "A", SamplingOptions(10**9, seed=1))
    assert endless.take(timeout=60)

    def broken(*_):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(AttentionRunner, "step", broken)
        with pytest.raises(CharlmError, match="press Generate again"):
            list(endless)
    other.take()
    assert other.take(timeout=60)
    assert not other.closed
    assert len(list(submit(batcher, "A", SamplingOptions(5, seed=1)))) == 5


def test_when_the_worker_dies_it_is_told_and_the_next_text_is_written(batcher: Batcher):
    endless = submit(batcher, "A", SamplingOptions(10**9, seed=1))
    assert endless.take(timeout=60)
    worker = batcher._worker
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(worker.ident), ctypes.py_object(SystemExit)
    )
    with pytest.raises(CharlmError, match="press Generate again"):
        list(endless)
    worker.join(timeout=30)
    assert not worker.is_alive()
    assert len(list(submit(batcher, "A", SamplingOptions(5, seed=1)))) == 5


def test_an_idle_worker_goes_and_comes_back(batcher: Batcher, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(batching, "IDLE_SECONDS", 0.05)
    assert len(list(submit(batcher, "A", SamplingOptions(5)))) == 5
    worker = batcher._worker
    if worker is not None:
        worker.join(timeout=30)
    assert batcher._worker is None
    assert len(list(submit(batcher, "A", SamplingOptions(5)))) == 5


def test_an_idle_moment_leaves_the_weights_packed(batcher: Batcher, monkeypatch: pytest.MonkeyPatch):
    packed = []

    def counting(model: LanguageModel, slots: int, plain: bool):
        packed.append(model)
        return runner_for(model, slots, plain)

    monkeypatch.setattr(batching, "runner_for", counting)
    for seed in (1, 2):
        together = [submit(batcher, "A", SamplingOptions(5, seed=seed + i)) for i in range(3)]
        assert [len(list(s)) for s in together] == [5, 5, 5]
        time.sleep(0.2)
    assert packed == [batcher.model]


def test_weights_that_nobody_uses_do_not_stay_packed(batcher: Batcher, monkeypatch: pytest.MonkeyPatch):
    """Also while somebody writes with another model."""
    monkeypatch.setattr(batching, "IDLE_SECONDS", 0.05)
    bigram = build("bigram", batcher.model.tokenizer, {}, seed=1)
    endless = batcher.submit(bigram, [0], SamplingOptions(10**9, seed=1))
    assert len(list(submit(batcher, "A", SamplingOptions(5)))) == 5
    end = time.monotonic() + 30
    while batcher.model in batcher._groups and time.monotonic() < end:
        endless.take(timeout=0.05)
    assert list(batcher._groups) == [bigram]


def test_all_writing_ends_when_it_is_closed(batcher: Batcher):
    text = submit(batcher, "A", SamplingOptions(10**9))
    assert text.take(timeout=60)
    worker = batcher._worker
    batcher.close()
    assert worker is not None and not worker.is_alive()
    idle = Batcher()
    list(idle.submit(batcher.model, [0], SamplingOptions(1)))
    worker = idle._worker
    idle.close()
    assert worker is not None and not worker.is_alive()
