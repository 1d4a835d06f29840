"""Training runs of visitors, as real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import zipfile
from contextlib import suppress
from pathlib import Path

import children
import pytest
from conftest import TINY, wait_for

from charlm import CharlmError, checkpoints
from charlm.corpus import Corpus
from charlm.engine.sampling import SamplingOptions
from charlm.models import build
from charlm.service import following, limits
from charlm.service.models import ModelService
from charlm.service.run import Run
from charlm.tokenizer import CharTokenizer

pytestmark = pytest.mark.slow

LARGEST = {"block_size": 256, "n_layer": 8, "n_head": 8, "n_embd": 384}
BIGRAM = {"block_size": 8}


def test_a_run_becomes_a_model_of_its_owner_alone(service: ModelService, corpus: Corpus, ann: str, bob: str):
    run = service.runs.start(ann, "my model", "small", TINY, steps=40, text=corpus.text)
    wait_for(lambda: not run.active)
    assert run.state == "done", run.error
    steps = [e["step"] for e in run.evaluations]
    assert steps[0] == 0
    assert steps[-1] == 40
    assert len(steps) >= 10
    assert run.evaluations[-1]["val_loss"] < run.evaluations[0]["val_loss"]
    assert run.evaluations[0]["attention"]["shape"] == [1, 2, 16, 16]
    assert run.baselines["bigram"] < run.baselines["uniform"]
    assert not (run.folder / "text.txt").exists()

    (name,) = service.own_names(ann)
    assert service.own_names(bob) == service.own_names("") == []
    assert service.info(name).title == "my model"
    assert len(list(service.stream(name, "ANN", SamplingOptions(max_new_chars=5)))) == 5

    packed = service.pack(name)
    assert sorted(zipfile.ZipFile(packed).namelist()) == ["config.json", "model.safetensors"]
    again = service.add_zip(bob, "back", packed)
    assert service.own_names(bob) == [again]
    options = SamplingOptions(max_new_chars=20, seed=1)
    written = ["".join(step.char for step in service.stream(n, "BOB", options)) for n in (name, again)]
    assert written[0] == written[1]


def test_runs_queue_and_stop(service: ModelService, corpus: Corpus, ann: str, bob: str):
    service.runs.max_running = 1
    first = service.runs.start(ann, "one", "small", TINY, seconds=600, text=corpus.text)
    second = service.runs.start(bob, "two", "small", TINY, seconds=600, text=corpus.text)
    eve = service.visitors.welcome("192.0.2.3")
    third = service.runs.start(eve, "three", "small", TINY, seconds=600, text=corpus.text)
    assert [run.state for run in (first, second, third)] == ["running", "queued", "queued"]
    assert [service.runs.place(run) for run in (first, second, third)] == [0, 1, 2]
    with pytest.raises(CharlmError, match="'one' is not finished"):
        service.runs.start(ann, "more", "small", TINY, steps=5, text=corpus.text)
    assert service.runs.of(bob) is second
    assert service.runs.of("nobody") is None

    service.runs.stop(bob)
    assert second.state == "stopped"
    assert service.runs.place(third) == 1
    wait_for(lambda: first.progress["step"] > 3)
    service.runs.stop(ann)
    wait_for(lambda: first.state == "stopped")
    assert checkpoints.load(first.model).record["steps"] >= first.progress["step"]
    wait_for(lambda: third.state == "running")


@pytest.mark.thorough
def test_a_run_that_dies_says_so_and_makes_way(service: ModelService, corpus: Corpus, ann: str, bob: str):
    service.runs.max_running = 1
    first = service.runs.start(ann, "one", "small", TINY, seconds=600, text=corpus.text)
    second = service.runs.start(bob, "two", "small", TINY, steps=2, text=corpus.text)
    wait_for(lambda: first.process)
    first.process.kill()
    wait_for(lambda: first.state == "failed")
    assert "ended unexpectedly" in first.error
    wait_for(lambda: second.state == "done")


@pytest.mark.thorough
def test_what_a_run_had_learned_before_it_died_is_kept(service: ModelService, corpus: Corpus, ann: str):
    run = service.runs.start(ann, "one", "bigram", {"block_size": 8}, steps=5000, text=corpus.text)
    wait_for(lambda: len(run.evaluations) > 2)
    run.process.kill()
    wait_for(lambda: not run.active)
    assert run.state == "failed"
    assert "What it had learned before is among your models" in run.error
    (name,) = service.own_names(ann)
    assert service.get(name).record["steps"] > 0


@pytest.mark.thorough
def test_a_run_killed_between_the_two_files_of_a_checkpoint_keeps_the_one_before(
    service: ModelService, corpus: Corpus, ann: str
):
    run = service.runs.start(ann, "one", "bigram", {"block_size": 8}, steps=5000, text=corpus.text)
    wait_for(lambda: len(run.evaluations) > 3)
    os.kill(run.process.pid, signal.SIGSTOP)
    kept = sorted(run.folder.glob(f"*/{checkpoints.WEIGHTS}"), key=lambda path: path.stat().st_mtime_ns)
    with suppress(CharlmError):  # Stopped between the two files, it needs no help to leave one of them.
        for path in kept:
            checkpoints.load(path.parent)
        kept[-1].write_bytes(b"the weights of another moment")
    run.process.kill()
    wait_for(lambda: not run.active)
    assert "What it had learned before is among your models" in run.error
    (name,) = service.own_names(ann)
    assert service.get(name).record["steps"] > 0
    kept = [f"model-{step}" for step in run.kept_steps]
    assert sorted(path.name for path in run.folder.iterdir()) == sorted(["model", *kept])
    for path in run.folder.iterdir():
        checkpoints.load(path)


def test_a_run_ends_with_the_app(corpus: Corpus, caplog: pytest.LogCaptureFixture):
    service = ModelService()
    ann = service.visitors.welcome("192.0.2.1")
    run = service.runs.start(ann, "one", "small", TINY, seconds=600, text=corpus.text)
    wait_for(lambda: run.process)
    pid = run.process.pid
    service.close()
    wait_for(lambda: has_ended(pid) and run.process is None)
    assert not run.folder.exists()
    assert not caplog.records


def has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


ORPHAN = """
from conftest import TEXT, TINY
from charlm.service.models import ModelService
service = ModelService()
run = service.runs.start(service.visitors.welcome("192.0.2.1"), "one", "small", TINY, seconds=600, text=TEXT)
while run.progress["step"] < 3:
    pass
print(run.process.pid, flush=True)
input()
"""


@pytest.mark.thorough
@pytest.mark.skipif(sys.platform == "win32", reason="kills as POSIX does")
def test_a_run_ends_when_the_app_is_killed():
    path = os.pathsep.join((str(Path(__file__).parent), *sys.path))
    app = subprocess.Popen(
        [sys.executable, "-c", ORPHAN],
        env=os.environ | {"PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with app:
        pid = int(app.stdout.readline())
        app.kill()
    wait_for(lambda: has_ended(pid))


def test_a_run_killed_in_its_turn_gives_it_to_the_next(
    service: ModelService, corpus: Corpus, ann: str, bob: str
):
    service.runs._turns.places = 1
    first = service.runs.start(ann, "one", "small", TINY, seconds=600, text=corpus.text)
    wait_for(lambda: first.progress["step"] > 3)
    second = service.runs.start(bob, "two", "small", TINY, steps=5, text=corpus.text)
    wait_for(lambda: service.runs._turns.has_turn(first))
    first.process.kill()
    wait_for(lambda: not first.active and not second.active)
    assert (first.state, second.state) == ("failed", "done")


def test_nobody_waits_for_a_process_that_does_not_read(
    service: ModelService, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, ann: str
):
    monkeypatch.setattr(following, "learn", children.is_silent)
    run = service.runs.start(ann, "one", "small", TINY, seconds=600, text=corpus.text)
    wait_for(lambda: service.runs._turns.has_turn(run))

    def stop_again_and_again() -> None:
        for _ in range(1000):
            service.runs.stop(ann)

    stopping = threading.Thread(target=stop_again_and_again, daemon=True)
    stopping.start()
    wait_for(lambda: not stopping.is_alive())
    service.runs.remove(ann, run.id)
    wait_for(lambda: not run.active)


@pytest.mark.thorough
def test_what_belongs_to_visitors_who_are_gone_is_removed(
    service: ModelService, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, ann: str
):
    run = service.runs.start(ann, "one", "bigram", {"block_size": 8}, steps=2, text=corpus.text)
    wait_for(lambda: not run.active)
    service.visitors.sweep()
    assert service.runs.of(ann) is run
    monkeypatch.setattr(limits, "FORGET_AFTER_SECONDS", -1)
    service.visitors.sweep()
    assert service.runs.of(ann) is None
    assert not run.folder.exists()


@pytest.mark.thorough
def test_a_run_takes_the_settings_of_another_and_tells_its_losses_and_measures(
    service: ModelService, corpus: Corpus, ann: str, bob: str
):
    settings = {"norm": "none", "optimizer": "adamw", "learning_rate": 0.01, "warmup_steps": 0, "seed": 7}
    first = service.runs.start(ann, "one", "small", TINY | settings, steps=30, text=corpus.text)
    wait_for(lambda: not first.active)
    assert first.state == "done", first.error
    assert [step for step, _, _ in first.batch_losses] == list(range(1, 31))
    assert first.batch_losses[-1][1] < first.batch_losses[0][1]
    assert [measures["step"] for measures in first.measures] == list(range(1, 31))
    names = [layer["name"] for layer in first.measures[-1]["layers"]]
    assert names == ["embedding", "layer 1", "logits"]

    again = service.runs.start(ann, "two", "small", first.recipe.settings(), text=corpus.text, guess=first.id)
    assert again.recipe == first.recipe
    assert again.guess == first.id
    wait_for(lambda: not again.active)
    losses = [[loss for _, loss, _ in run.batch_losses] for run in (first, again)]
    assert losses[0] == pytest.approx(losses[1], rel=0.01)
    assert service.runs.all_of(ann) == [first, again]
    assert service.runs.of(ann) is again
    assert service.runs.find(ann, first.id) is first
    assert service.runs.find(bob, first.id) is None
    assert service.runs.all_of(bob) == []


def test_of_many_batch_losses_some_are_kept_at_even_distances(
    service: ModelService, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, ann: str
):
    monkeypatch.setattr(limits, "MAX_BATCH_LOSSES", 10)
    run = service.runs.start(ann, "one", "bigram", BIGRAM, steps=45, text=corpus.text)
    wait_for(lambda: not run.active)
    assert [step for step, _, _ in run.batch_losses] == [8, 16, 24, 32, 40]


def test_the_latest_runs_are_kept_and_any_can_be_removed(
    service: ModelService, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, ann: str, bob: str
):
    monkeypatch.setattr(limits, "MAX_RUNS", 2)
    service.runs.max_running = 0

    def start() -> Run:
        return service.runs.start(ann, "one", "bigram", BIGRAM, steps=5000, text=corpus.text)

    first = start()
    service.runs.stop(ann)
    second = start()
    service.runs.stop(ann)
    third = start()
    assert service.runs.all_of(ann) == [second, third]
    # A number tells runs of one name apart, as their kept steps are.
    assert [run.name for run in (first, second, third)] == ["one", "one (2)", "one (3)"]
    assert not first.folder.exists()
    service.runs.remove(bob, second.id)
    assert second.folder.exists()
    service.runs.remove(ann, second.id)
    service.runs.remove(ann, third.id)
    assert service.runs.all_of(ann) == []
    assert third.state == "stopped"
    assert not second.folder.exists()
    assert not third.folder.exists()

    service.runs.max_running = 1
    fourth = start()
    wait_for(lambda: len(fourth.evaluations) > 1)
    service.runs.remove(ann, fourth.id)
    assert service.runs.of(ann) is None
    wait_for(lambda: not fourth.folder.exists())
    assert service.own_names(ann) == []


def test_a_run_that_diverges_is_explained_and_what_it_had_learned_before_is_kept(
    service: ModelService, corpus: Corpus, ann: str
):
    # A warm-up that leads to a rate at which nothing can be learned.
    settings = {"optimizer": "sgd", "learning_rate": 100.0, "warmup_steps": 1500, "eval_interval": 10}
    run = service.runs.start(ann, "one", "residual", TINY | settings, steps=400, text=corpus.text)
    wait_for(lambda: not run.active)
    assert run.state == "diverged"
    assert "the run has diverged. The gradient norm was" in run.error
    assert run.error.endswith("What it had learned before is among your models.")
    assert run.evaluations[-1]["step"] <= run.batch_losses[-1][0] == run.progress["step"]
    (name,) = service.own_names(ann)
    record = service.get(name).record
    assert record["steps"] in [10, 20]
    assert record["val_loss"] < run.baselines["uniform"]

    # Evaluated when it is worse than a uniform guess already, it has learned nothing worth keeping.
    settings["eval_interval"] = 20
    run = service.runs.start(ann, "two", "residual", TINY | settings, steps=400, text=corpus.text)
    wait_for(lambda: not run.active)
    assert run.state == "diverged"
    assert "or a norm (it has none)." in run.error
    assert service.own_names(ann) == [name]


def test_the_model_of_a_run_that_is_removed_stays(service: ModelService, corpus: Corpus, ann: str):
    run = service.runs.start(ann, "one", "bigram", BIGRAM, steps=2, text=corpus.text)
    wait_for(lambda: not run.active)
    service.runs.remove(ann, run.id)
    assert service.runs.of(ann) is None
    (name,) = service.own_names(ann)
    assert service.get(name).config.block_size == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"preset": "huge"}, "no preset called 'huge'"),
        ({"name": "  "}, "a name of 1 to"),
        ({"name": "x" * 61}, "a name of 1 to"),
        ({"steps": 0}, "from 1 to 5,000 steps, not 0"),
        ({"steps": 10**9}, "from 1 to 5,000 steps"),
        ({"steps": None, "seconds": float("nan")}, "seconds, not nan"),
        ({"steps": None, "seconds": 1e9}, "from 1 to 1,800 seconds"),
        ({"settings": {"n_layer": 99}}, "n_layer must be from 1 to 8, not 99"),
        ({"settings": {"n_layer": True}}, "n_layer must be a whole number from 1 to 8, not True"),
        ({"settings": {"batch_size": 2.5}}, "batch_size must be a whole number from 1 to 256, not 2.5"),
        ({"settings": {"learning_rate": "fast"}}, "learning_rate must be from 1e-06 to 100.0, not 'fast'"),
        ({"settings": {"learning_rate": float("nan")}}, "learning_rate must be from 1e-06 to 100.0, not nan"),
        ({"settings": {"seed": 10**400}}, "seed must be from 0"),
        ({"settings": {"colour": 1}}, "A small model has no colour"),
        (
            {"settings": {"norm": "batchnorm"}},
            "norm must be one of none, layernorm, rmsnorm, not 'batchnorm'",
        ),
        ({"settings": {"residual": 0}}, "residual must be one of false, true, not 0"),
        ({"settings": {"optimizer": ["sgd"]}}, "optimizer must be one of sgd, adamw, muon"),
        ({"preset": "bigram", "settings": {"optimizer": "muon"}}, "Muon is for the matrices inside layers"),
        ({"preset": "bigram", "settings": {"n_layer": 2}}, "A bigram model has no n_layer"),
        ({"settings": {"n_embd": 30, "n_head": 4}}, "an even multiple of n_head"),
        ({"settings": LARGEST | {"batch_size": 17}}, "538.8 billion operations, and at most 520.0"),
        (
            {"settings": LARGEST | {"n_embd": 64, "batch_size": 256}},
            "billion bytes of memory, and at most 1.7",
        ),
        ({"settings": {"eval_interval": 1}, "steps": 5000}, r"eval_interval must be \d+ or more, not 1\."),
        ({"guess": "another"}, "guess to end lower is not here any more"),
        ({"text": ""}, "too short"),
        ({"text": "abc" * 100}, "needs about 1,290 characters"),
        ({"text": "".join(map(chr, range(0x4E00, 0x4E00 + 3000)))}, "3,000 different characters"),
        ({"text": "a" * 5_000_001}, "may have 5,000,000 characters"),
    ],
)
def test_requests_out_of_bounds_are_refused(change: dict, message: str, service: ModelService, ann: str):
    request = {"name": "m", "preset": "small", "settings": {}, "steps": 5, "text": "ab\n" * 2000} | change
    with pytest.raises(CharlmError, match=message):
        service.runs.start(ann, **request)
    assert service.runs.of(ann) is None


def test_a_visitor_keeps_the_latest_models(service: ModelService, checkpoint: Path, tmp_path: Path, ann: str):
    checkpoints.pack(checkpoint, tmp_path / "m.zip")
    names = [service.add_zip(ann, f"model {i}", tmp_path / "m.zip") for i in range(10)]
    assert service.own_names(ann) == names[:1:-1]


def test_a_model_larger_than_can_be_trained_here_is_not_taken(
    service: ModelService, tokenizer: CharTokenizer, tmp_path: Path, ann: str
):
    large = build("attention", tokenizer, TINY | {"block_size": 4096}, seed=1)
    checkpoints.save(large, {}, tmp_path / "large")
    checkpoints.pack(tmp_path / "large", tmp_path / "large.zip")
    with pytest.raises(CharlmError, match="block_size must be from 1 to 256, not 4096"):
        service.add_zip(ann, "large", tmp_path / "large.zip")
    assert service.own_names(ann) == []


@pytest.mark.thorough
def test_whoever_trains_is_told_when_there_is_no_room_for_the_model(
    service: ModelService, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, ann: str
):
    monkeypatch.setattr(limits, "MAX_OWN_BYTES", 10)
    run = service.runs.start(ann, "one", "bigram", {"block_size": 8}, steps=2, text=corpus.text)
    wait_for(lambda: not run.active)
    assert run.state == "failed"
    assert "no room for another model" in run.error


def test_no_folder_of_the_server_is_told(service: ModelService, monkeypatch: pytest.MonkeyPatch, ann: str):
    monkeypatch.setenv("CHARLM_DATA", "/srv/secret/missing.txt")
    run = service.runs.start(ann, "one", "bigram", {}, steps=2)
    wait_for(lambda: not run.active)
    assert (run.state, run.error) == ("failed", "Cannot read missing.txt: No such file or directory.")
