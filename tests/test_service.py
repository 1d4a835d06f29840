"""The model service and who visits it: nobody waits for what concerns somebody else."""

from __future__ import annotations

import json
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import children
import pytest
import torch
from conftest import TINY, wait_for

from charlm import CharlmError, Corpus, checkpoints, operate
from charlm.models import build
from charlm.service import following, limits, visitors
from charlm.service.models import ModelService
from charlm.service.operated import operated_name, split_name
from charlm.service.run import Run
from charlm.service.visitors import Visitors
from charlm.surgery.operate import RECIPE
from charlm.tokenizer import CharTokenizer


def in_time(function: Callable[[], object], seconds: float = 10) -> object:
    """What `function` gives, called in a thread that must not be kept waiting."""
    answers: list[object] = []
    thread = threading.Thread(target=lambda: answers.append(function()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "it waits for somebody else"
    return answers[0]


def test_visitors_may_come_while_others_are_forgotten():
    """Each sweep walks through everybody, at every switch of threads."""
    here = Visitors()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    failures = []
    end = time.monotonic() + 2

    def come() -> None:
        n = 0
        while time.monotonic() < end:
            here.welcome(f"{threading.get_ident()}-{n}")
            n += 1

    def sweep() -> None:
        while time.monotonic() < end:
            try:
                here.sweep()
            except RuntimeError as error:
                failures.append(error)
                return

    threads = [threading.Thread(target=f) for f in (come, come, sweep)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(interval)
    here.close()
    assert not failures


def test_a_sweep_that_fails_is_logged_and_the_next_one_comes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(visitors, "SWEEP_INTERVAL_SECONDS", 0.02)
    here = Visitors()
    swept = []

    def broken() -> None:
        swept.append("broken")
        raise OSError("no such disk")

    here.on_sweep(broken)
    here.on_sweep(lambda: swept.append("other"))
    wait_for(lambda: swept.count("other") >= 3)
    here.close()
    assert swept.count("broken") >= 3
    assert "no such disk" in caplog.text


def test_nobody_waits_while_a_model_is_loaded(
    service: ModelService, monkeypatch: pytest.MonkeyPatch, ann: str
):
    loading, go_on = threading.Event(), threading.Event()
    load = checkpoints.load
    loaded = []

    def slow(path: Path) -> object:
        loaded.append(path.name)
        if path.name == "gpt":
            loading.set()
            go_on.wait(30)
        return load(path)

    monkeypatch.setattr(checkpoints, "load", slow)
    askers = [threading.Thread(target=service.get, args=("gpt",)) for _ in range(3)]
    for asker in askers:
        asker.start()
    assert loading.wait(10)
    assert in_time(service.names)[:3] == ["gpt", "attention", "bigram"]
    assert in_time(lambda: service.own_names(ann)) == []
    assert in_time(lambda: service.info("gpt").has_attention) is True
    assert in_time(lambda: service.get("bigram").config.vocab_size) == 65
    assert in_time(service.visitors.sweep) is None
    go_on.set()
    for asker in askers:
        asker.join(30)
    assert loaded.count("gpt") == 1


def test_a_model_that_could_not_be_loaded_is_tried_again(
    service: ModelService, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "load", lambda path: (_ for _ in ()).throw(CharlmError("A bad disk.")))
        for _ in range(2):
            with pytest.raises(CharlmError, match="A bad disk"):
                service.get("bigram")
    assert service.get("bigram").config.vocab_size == 65


def test_a_model_that_cannot_be_read_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    for name, text in (("broken", "{"), ("foreign", json.dumps({"model_type": "llama"}))):
        (tmp_path / name).mkdir()
        (tmp_path / name / checkpoints.CONFIG).write_text(text)
    shutil.copytree(checkpoints.CHECKPOINTS / "bigram", tmp_path / "bigram")
    monkeypatch.setattr(checkpoints, "CHECKPOINTS", tmp_path)
    service = ModelService()
    assert service.names() == ["bigram"]
    assert caplog.text.count("left out") == 2
    service.close()


def test_without_any_model_that_can_be_read_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(checkpoints, "CHECKPOINTS", tmp_path)
    with pytest.raises(CharlmError, match="no model in checkpoints/ that can be read"):
        ModelService()


def test_a_better_model_of_another_text_is_not_taken_for_shakespeares(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    shutil.copytree(checkpoints.CHECKPOINTS, tmp_path, dirs_exist_ok=True)
    model = checkpoints.load(checkpoint)
    checkpoints.save(model, {"data": "colours", "val_loss": 0.1}, tmp_path / "aaa")
    monkeypatch.setattr(checkpoints, "CHECKPOINTS", tmp_path)
    service = ModelService()
    names = service.names()
    assert names[:3] == ["gpt", "attention", "bigram"] and names[-1] == "aaa"
    service.close()


def test_who_uses_a_model_keeps_it(
    service: ModelService, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, ann: str
):
    """Also a program that has no page open: half an hour after its training, at the latest look."""
    now = [0.0]
    monkeypatch.setattr(visitors, "time", SimpleNamespace(monotonic=lambda: now[0]))
    service.visitors.touch(ann)
    name = service.add_zip(ann, "mine", checkpoint)
    for _ in range(5):
        now[0] += 0.9 * limits.FORGET_AFTER_SECONDS
        service.get(name)
        service.visitors.sweep()
    assert service.own_names(ann) == [name]
    now[0] += 1.1 * limits.FORGET_AFTER_SECONDS
    service.visitors.sweep()
    assert service.own_names(ann) == []


def test_the_app_has_one_thread_of_pytorch_and_computes_in_workers():
    torch.set_num_threads(2)
    service = ModelService()
    assert torch.get_num_threads() == service.compute(torch.get_num_threads) == 1
    assert service.compute(threading.current_thread).name.startswith("charlm-worker")
    with pytest.raises(ZeroDivisionError):
        service.compute(lambda: 1 / 0)
    service.close()


def test_what_a_process_tells_is_noted(
    service: ModelService, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, ann: str
):
    monkeypatch.setattr(following, "learn", children.fails)
    run = service.runs.start(ann, "one", "small", TINY, steps=5, text=corpus.text)
    wait_for(lambda: not run.active)
    assert (run.state, run.error) == ("failed", "That was all.")
    assert run.progress["step"] == 2
    assert run.baselines == {"uniform": 1.0, "bigram": 0.5}


@pytest.mark.parametrize(
    ("child", "told"),
    [
        (children.is_silent, following.SILENT),
        (children.crashes, following.FAILED),
        (children.leaves_nothing, following.FAILED),
    ],
)
def test_whatever_a_process_does_its_place_becomes_free(
    child: Any, told: str, service: ModelService, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, ann: str
):
    monkeypatch.setattr(limits, "SILENCE_SECONDS", 1)
    monkeypatch.setattr(following, "learn", child)
    run = service.runs.start(ann, "one", "small", TINY, steps=5, text=corpus.text)
    wait_for(lambda: not run.active)
    assert (run.state, run.error) == ("failed", told)


def test_a_process_that_does_not_end_is_ended(
    service: ModelService, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, ann: str
):
    monkeypatch.setattr(limits, "GRACE_SECONDS", 1 - limits.MAX_RUN_SECONDS)
    monkeypatch.setattr(following, "learn", children.is_silent)
    run = service.runs.start(ann, "one", "small", TINY, steps=5, text=corpus.text)
    wait_for(lambda: not run.active)
    assert (run.state, run.error) == ("failed", following.ENDLESS)


def test_places_in_the_line_are_shared_among_clients(
    service: ModelService, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, ann: str, bob: str
):
    """One client invents visitors and takes all places: the others still get in, and soon have their turn."""
    monkeypatch.setattr(limits, "MAX_WAITING_RUNS", 6)
    service.runs.max_running = 0

    def wait_as(visitor: str) -> Run:
        return service.runs.start(visitor, "one", "small", TINY, steps=5, text=corpus.text)

    greedy = [wait_as(service.visitors.welcome("203.0.113.7")) for _ in range(6)]
    with pytest.raises(CharlmError, match="line is full"):
        wait_as(service.visitors.welcome("203.0.113.7"))
    anns, bobs = wait_as(ann), wait_as(bob)
    assert [service.runs.place(run) for run in (greedy[0], anns, bobs, greedy[1])] == [1, 2, 3, 4]
    assert [run.state for run in greedy] == ["queued"] * 4 + ["failed"] * 2
    assert "shared among all who wait" in greedy[-1].error


def test_one_client_does_not_take_all_places(
    service: ModelService, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, ann: str
):
    monkeypatch.setattr(limits, "MAX_RUNNING_RUNS_A_CLIENT", 1)
    monkeypatch.setattr(following, "learn", children.stops)
    greedy = [service.visitors.welcome("203.0.113.7") for _ in range(2)]
    started = [
        service.runs.start(visitor, "one", "small", TINY, steps=5, text=corpus.text)
        for visitor in (*greedy, ann)
    ]
    assert [run.state for run in started] == ["running", "queued", "running"]
    service.runs.stop(greedy[0])
    wait_for(lambda: started[1].state == "running")


@pytest.mark.parametrize("way", ["stop", "remove", "sweep"])
def test_whoever_leaves_the_line_makes_way_for_who_is_behind(
    way: str,
    service: ModelService,
    corpus: Corpus,
    monkeypatch: pytest.MonkeyPatch,
    ann: str,
    bob: str,
):
    monkeypatch.setattr(following, "learn", children.stops)
    eve = service.visitors.welcome("192.0.2.3")

    def start(visitor: str) -> Run:
        return service.runs.start(visitor, "one", "small", TINY, steps=5, text=corpus.text)

    service.runs.max_running = 1
    first, large, small = start(ann), start(bob), start(eve)
    large.held_bytes = 1e12
    service.runs.max_running = 2
    if way == "stop":
        service.runs.stop(bob)
    elif way == "remove":
        service.runs.remove(bob, large.id)
    else:
        monkeypatch.setattr(limits, "AWAY_SECONDS", 0.5)
        time.sleep(0.6)
        service.visitors.touch(ann)
        service.visitors.touch(eve)
        service.visitors.sweep()
    assert (first.state, small.state) == ("running", "running")


def test_who_left_the_line_loses_the_place(
    service: ModelService, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, ann: str, bob: str
):
    service.runs.max_running = 0
    left, here = (
        service.runs.start(visitor, "one", "small", TINY, steps=5, text=corpus.text) for visitor in (ann, bob)
    )
    monkeypatch.setattr(limits, "AWAY_SECONDS", 0.5)
    time.sleep(0.6)
    service.visitors.touch(bob)
    service.visitors.sweep()
    assert (left.state, here.state) == ("failed", "queued")
    assert "You were away" in left.error
    assert service.runs.place(here) == 1


@pytest.mark.thorough
@pytest.mark.parametrize("fault", ["begin", "follow", "listen"])
def test_a_run_that_cannot_be_followed_makes_way(
    fault: str, service: ModelService, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, ann: str, bob: str
):
    service.runs.max_running = 1

    def broken(*_: object) -> None:
        raise OSError("no more processes")

    if fault == "listen":
        service.runs.on_trained(broken)
    else:
        monkeypatch.setattr(following, fault, broken)
    first = service.runs.start(ann, "one", "bigram", {"block_size": 8}, steps=2, text=corpus.text)
    wait_for(lambda: not first.active)
    if fault == "listen":
        assert first.state == "done"
    else:
        assert (first.state, first.error) == ("failed", following.FAILED)
        wait_for(lambda: first.process is None or not first.process.is_alive())
    monkeypatch.undo()
    second = service.runs.start(bob, "two", "bigram", {"block_size": 8}, steps=2, text=corpus.text)
    wait_for(lambda: not second.active)
    assert second.state == "done"


def test_nobody_waits_while_a_process_begins(
    service: ModelService, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, ann: str, bob: str
):
    beginning, go_on = threading.Event(), threading.Event()

    def slow(_: Run) -> None:
        beginning.set()
        go_on.wait(30)
        raise OSError("stopped")

    monkeypatch.setattr(following, "begin", slow)
    run = service.runs.start(ann, "one", "small", TINY, steps=5, text=corpus.text)
    assert beginning.wait(10)
    assert in_time(lambda: service.runs.of(bob)) is None
    assert in_time(lambda: service.runs.place(run)) == 0
    assert in_time(lambda: service.runs.stop(ann)) is None
    go_on.set()
    wait_for(lambda: not run.active)
    assert run.state == "stopped"


def test_a_run_may_be_stopped_before_its_process_has_begun(
    service: ModelService, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, ann: str
):
    beginning, go_on = threading.Event(), threading.Event()
    begin = following.begin

    def slow(run: Run) -> None:
        beginning.set()
        go_on.wait(30)
        begin(run)

    monkeypatch.setattr(following, "learn", children.stops)

    monkeypatch.setattr(following, "begin", slow)
    run = service.runs.start(ann, "one", "small", TINY, steps=5, text=corpus.text)
    assert beginning.wait(10)
    service.runs.stop(ann)
    go_on.set()
    wait_for(lambda: not run.active)
    assert run.state == "stopped"


def test_a_request_that_is_refused_leaves_no_folder(service: ModelService, corpus: Corpus, ann: str):
    service.runs.max_running = 0
    service.runs.start(ann, "one", "small", TINY, steps=5, text=corpus.text)
    before = list(service.visitors.folder.iterdir())
    with pytest.raises(CharlmError, match="'one' is not finished"):
        service.runs.start(ann, "two", "small", TINY, steps=5, text=corpus.text)
    assert list(service.visitors.folder.iterdir()) == before


def test_a_full_disk_is_told_to_whoever_wants_to_train(
    service: ModelService, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, ann: str
):
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(CharlmError, match="could not be kept on the server: No space left on device"):
        service.runs.start(ann, "one", "small", TINY, steps=5, text=corpus.text)
    assert service.runs.of(ann) is None


def test_the_limits_of_a_model_are_those_of_training(
    service: ModelService, monkeypatch: pytest.MonkeyPatch, checkpoint: Path, tmp_path: Path, ann: str
):
    checkpoints.pack(checkpoint, tmp_path / "m.zip")
    monkeypatch.setitem(limits.SIZE_LIMITS, "n_embd", 8)
    with pytest.raises(CharlmError, match="n_embd must be from 1 to 8, not 16"):
        service.add_zip(ann, "m", tmp_path / "m.zip")


def test_who_is_not_welcomed_here_is_nobody(service: ModelService, corpus: Corpus, ann: str):
    """An id is 64 characters that only this process can sign; nothing is kept of anything else."""
    elsewhere = Visitors()
    strangers = [
        "",
        "a" * 64,
        "a" * 20_000_000,
        ann[:-1] + ("-" if ann.endswith("_") else "_"),
        ann[:32],
        elsewhere.welcome("192.0.2.1"),
        "é" * 64,
        7,
    ]
    elsewhere.close()
    assert len(ann) == visitors.ID_CHARS == 64
    for stranger in strangers:
        service.visitors.touch(stranger)
        assert service.visitors.is_gone(stranger)
        assert service.runs.of(stranger) is None
        assert service.visitors.welcome("192.0.2.1", stranger) != stranger
        with pytest.raises(CharlmError, match=r"please (reload it|try again)"):
            service.runs.start(stranger, "one", "bigram", {}, steps=2, text=corpus.text)
    assert service.visitors.welcome("192.0.2.1", ann) == ann


def test_few_visitors_are_remembered(service: ModelService, monkeypatch: pytest.MonkeyPatch, ann: str):
    """Whoever is here stays known while others only come and go."""
    monkeypatch.setattr(limits, "MAX_VISITORS", 10)
    first = service.visitors.welcome("192.0.2.7")
    for _ in range(30):
        service.visitors.welcome("192.0.2.7")
        service.visitors.touch(ann)
    assert service.visitors.is_gone(first)
    assert not service.visitors.is_gone(ann)
    assert service.visitors.client(ann) == "192.0.2.1"


@pytest.fixture
def small_zip(checkpoint: Path, tmp_path: Path) -> Path:
    checkpoints.pack(checkpoint, tmp_path / "small.zip")
    return tmp_path / "small.zip"


def test_own_models_are_bounded_together(
    service: ModelService, small_zip: Path, monkeypatch: pytest.MonkeyPatch, ann: str
):
    """Whoever invents visitors takes the place of his own models, and of nobody's that is in use."""
    first = service.add_zip(ann, "in use", small_zip)
    size = service._own_bytes()
    monkeypatch.setattr(limits, "MAX_OWN_BYTES", 10 * size + 100)
    for i in range(30):
        somebody = service.visitors.welcome("198.51.100.1")
        latest = service.add_zip(somebody, str(i), small_zip)
        service.get(first)
        assert service._own_bytes() <= limits.MAX_OWN_BYTES
        assert service.own_names(somebody) == [latest]
    for i in range(30):
        somebody = service.visitors.welcome(f"203.0.113.{i}")
        service.add_zip(somebody, str(i), small_zip)
    assert service.own_names(ann) == [first]
    assert folders(service) == len(service._own) == 10
    for name in service._own:
        service.get(name)
    with pytest.raises(CharlmError, match="no room for another model"):
        service.add_zip(ann, "one more", small_zip)
    assert folders(service) == 10


def folders(service: ModelService) -> int:
    return sum(path.is_dir() for path in service.visitors.folder.iterdir())


def test_own_models_that_nobody_uses_leave_the_memory(
    service: ModelService, small_zip: Path, monkeypatch: pytest.MonkeyPatch, ann: str
):
    names = [service.add_zip(ann, str(i), small_zip) for i in range(5)]
    monkeypatch.setattr(limits, "MAX_OWN_MEMORY", 3 * 2 * service._own_bytes() // 5)
    models = [service.get(name) for name in (*names, names[0])]
    assert models[0] is not models[-1]
    assert service.get(names[0]) is models[-1]
    assert len([name for name in service._models if name in names]) <= 4


@pytest.mark.parametrize("told", [1e9, float("inf"), -1.0, "1.5", None])
def test_a_loss_that_makes_no_sense_is_not_told(
    told: object, service: ModelService, ann: str, tmp_path: Path
):
    model = build("bigram", CharTokenizer("ab"), {}, seed=1)
    checkpoints.save(model, {"val_loss": told}, tmp_path / "m")
    checkpoints.pack(tmp_path / "m", tmp_path / "m.zip")
    name = service.add_zip(ann, "mine", tmp_path / "m.zip")
    assert service.info(name).val_loss is None


EDITS = "5.4:silent 6.mlp:off"


def test_a_changed_model_is_asked_for_by_a_name_that_says_how(service: ModelService):
    name = operated_name("gpt", f" {EDITS}  ")
    assert (name, split_name(name)) == (f"gpt/{EDITS}", ("gpt", EDITS))
    assert operated_name("gpt", " ") == "gpt"
    assert operated_name("gpt/5.4:silent", "6.mlp:off ") == name and operated_name(name, "") == name
    changed = service.get(name)
    assert service.get(name) is changed and service.get("gpt") is not changed
    expected = operate(service.get("gpt"), EDITS)
    for got, wanted in zip(changed.parameters(), expected.parameters(), strict=True):
        assert torch.equal(got, wanted)
    info = service.info(name)
    assert (info.title, info.val_loss) == ("GPT, six layers, with 2 edits", None)
    assert service.shared_name(name) == name and service.shared_name("gpt") == "gpt"
    for wrong, reason in (
        ("gpt/5.4:gone", "no such model"),
        ("none/5.4:silent", "no such model"),
        ("../gpt/5.4:silent", "no such model"),
    ):
        assert service.find(wrong) is None and service.shared_name(wrong) is None
        with pytest.raises(CharlmError, match=reason):
            service.info(wrong)
    for wrong, reason in (("gpt/9.1:silent", "no layer 9"), ("bigram/1.1:silent", "no heads")):
        with pytest.raises(CharlmError, match=reason):
            service.get(wrong)


def test_only_the_latest_changed_models_stay_in_memory(
    service: ModelService, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(limits, "MAX_OPERATED_MODELS", 2)
    names = [f"attention/1.1:x{factor}" for factor in (0.5, 2, 3)]
    first = service.get(names[0])
    second = service.get(names[1])
    assert service.get(names[0]) is first
    service.get(names[2])
    assert service.get(names[0]) is first
    assert service.get(names[1]) is not second


def test_a_changed_model_may_be_kept(service: ModelService, ann: str):
    own = service.keep_operated(ann, f"gpt/{EDITS}")
    assert service.own_names(ann) == [own]
    assert service.info(own).title == "GPT, six layers, with 2 edits"
    assert service.info(own).val_loss is None
    kept = service.get(own)
    assert kept.record[RECIPE]["edits"] == EDITS
    for got, wanted in zip(kept.parameters(), service.get(f"gpt/{EDITS}").parameters(), strict=True):
        assert torch.equal(got, wanted)
    # Everybody can ask for it, and go on with it.
    assert service.shared_name(own) == f"gpt/{EDITS}"
    again = service.get(f"{own}/5.4:learned 6.mlp:on")
    for got, wanted in zip(again.parameters(), service.get("gpt").parameters(), strict=True):
        assert torch.equal(got, wanted)
    with pytest.raises(CharlmError, match="no such model"):
        service.keep_operated(ann, "gpt/nonsense")
    with pytest.raises(CharlmError):
        service.keep_operated("nobody", f"gpt/{EDITS}")


def test_ones_own_changed_model_is_nobody_elses(service: ModelService, ann: str, checkpoint: Path):
    packed = checkpoint.parent / "model.zip"
    checkpoints.pack(checkpoint, packed)
    own = service.add_zip(ann, "mine", packed)
    assert service.info(f"{own}/1.1:silent").title == "mine, without head 1·1"
    assert service.shared_name(f"{own}/1.1:silent") is None
    kept = service.keep_operated(ann, f"{own}/1.1:silent")
    assert service.shared_name(kept) is None and service.shared_name(own) is None
