"""The turns in which the runs share the machine, and what can be told of their ends."""

from __future__ import annotations

import threading
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest

from charlm import checkpoints
from charlm.corpus import Corpus
from charlm.engine.decoding import CORES
from charlm.service import learning, limits, outlook, turns
from charlm.service.kept import folder_of, kept_steps
from charlm.service.run import Run
from charlm.service.turns import Turn, Turns
from charlm.training import presets


class Told(list[Any]):
    """Stands in for the connection to a process: what it was told."""

    send = list.append


def new_run(preset: str = "small", **settings: Any) -> Run:
    run = Run("ann", "one", presets.recipe(preset, settings), Path("nowhere"))
    run.connection = Told()
    run.progress = {"step": 1, "done": 0.1, "seconds": 60.0, "chars_per_second": 1.0}
    return run


def served(runs: list[Run]) -> list[int]:
    """How many turns each was given."""
    return [sum(isinstance(message, Turn) for message in run.connection) for run in runs]


def order(shared: Turns, runs: list[Run], turns: int) -> str:
    """Who has the next turns, by their numbers, where there is one at a time."""
    taken = ""
    for _ in range(turns):
        shared.next(next(run for run in runs if shared.has_turn(run)))
        taken += next(str(i) for i, run in enumerate(runs) if shared.has_turn(run))
    return taken


def test_turns_go_round():
    shared = Turns(places=1)
    runs = [new_run() for _ in range(3)]
    for run in runs:
        shared.join(run)
    assert served(runs) == [1, 0, 0]
    order(shared, runs, 4)
    assert order(shared, runs, 6) == "201201"
    shared.leave(runs[0])
    assert order(shared, runs, 4) == "2121"


def test_newcomers_come_first():
    shared = Turns(places=1)
    runs = [new_run() for _ in range(5)]
    for run in runs[:3]:
        shared.join(run)
    assert order(shared, runs, 7) == "1201201"
    shared.join(runs[3])
    shared.join(runs[4])
    assert order(shared, runs, 4) == "3420"


def test_whoever_has_little_left_comes_first_but_not_for_ever():
    shared = Turns(places=1)
    runs = [new_run(preset) for preset in ("bigram", "small", "small")]
    for run in runs:
        shared.join(run)
    order(shared, runs, 6)
    runs[0].progress |= {"done": 0.99}
    assert order(shared, runs, 8) == "00100200"


def test_who_is_to_stop_comes_first_and_is_told_once():
    shared = Turns(places=1)
    runs = [new_run() for _ in range(4)]
    for run in runs:
        shared.join(run)
    order(shared, runs, 8)
    waiting = [i for i, run in enumerate(runs) if not shared.has_turn(run)]
    last = next(i for i in reversed(waiting))
    runs[last].stopping = True
    shared.stop(runs[last])
    assert runs[last].connection[-1] is None
    assert order(shared, runs, 1) == str(last)
    stranger = new_run()
    shared.stop(stranger)
    assert not stranger.connection


def test_a_run_alone_has_all_threads_and_many_have_one_each():
    shared = Turns(places=CORES)
    runs = [new_run() for _ in range(CORES + 1)]
    shared.join(runs[0])
    assert runs[0].connection == [Turn(limits.TURN_SECONDS, CORES)]
    for run in runs[1:]:
        shared.join(run)
    for _ in range(2):
        shared.next(runs[0])
    assert runs[-1].connection[-1].threads == 1
    assert served(runs)[-1] == 1


def test_steps_that_need_much_memory_are_not_taken_at_once(monkeypatch: pytest.MonkeyPatch):
    runs = [new_run() for _ in range(3)]
    monkeypatch.setattr(limits, "MAX_STEP_BYTES", 1.5 * runs[0].step_bytes)
    shared = Turns(places=3)
    for run in runs:
        shared.join(run)
    assert served(runs) == [1, 0, 0]
    shared.leave(runs[0])
    assert served(runs) == [1, 1, 0]


def test_the_time_of_a_turn_is_counted(monkeypatch: pytest.MonkeyPatch):
    now = [10.0]
    monkeypatch.setattr(turns.time, "monotonic", lambda: now[0])
    shared = Turns(places=1)
    first, second = new_run(), new_run()
    shared.join(first)
    shared.join(second)
    now[0] += 3
    assert (shared.seconds(first), shared.seconds(second)) == (3.0, 0.0)
    shared.next(first)
    now[0] += 4
    assert (first.computed, shared.seconds(first), shared.seconds(second)) == (3.0, 0.0, 4.0)


def test_who_has_ended_need_not_be_told():
    class Broken:
        def send(self, message: object) -> None:
            raise BrokenPipeError

    run = new_run()
    run.connection = Broken()
    shared = Turns(places=1)
    shared.join(run)
    shared.leave(run)


def test_equal_shares_end_in_order_and_one_begins_whenever_one_ends(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(outlook, "CORES", 2)
    assert outlook.share([10.0], 1) == [(0.0, 10.0)]
    assert outlook.share([10.0, 10.0], 2) == [(0.0, 10.0), (0.0, 10.0)]
    # Four share two cores until the short ones end; the others then have one each.
    assert outlook.share([10.0, 5.0, 10.0, 5.0], 4) == [(0.0, 15.0), (0.0, 10.0), (0.0, 15.0), (0.0, 10.0)]
    assert outlook.share([10.0, 4.0, 6.0], 1) == [(0.0, 10.0), (10.0, 14.0), (14.0, 20.0)]
    assert outlook.share([6.0, 2.0], 0) == [(0.0, 6.0), (6.0, 8.0)]


def test_what_is_left_of_a_run():
    run = new_run(steps=100)
    run.state = "running"
    run.progress |= {"done": 0.0}
    assert outlook.seconds_left(run) == run.whole_seconds > run.measuring_seconds
    run.progress = {"step": 50, "done": 0.5, "seconds": 10.0, "chars_per_second": 1.0}
    assert outlook.seconds_left(run) == pytest.approx(10 + run.measuring_seconds)
    run.progress |= {"done": 1.0}
    assert outlook.seconds_left(run) == run.measuring_seconds
    run.progress |= {"done": 0.5}
    run.stopping = True
    assert outlook.seconds_left(run) == run.measuring_seconds
    waiting = new_run(steps=100)
    waiting.progress |= {"done": 0.0}
    begins, ends, others = outlook.foresee(waiting, [run], [waiting])
    assert begins == run.measuring_seconds and ends > begins and others == 1
    assert outlook.foresee(run, [run], [waiting]) == (0.0, run.measuring_seconds, 0)
    assert outlook.foresee(new_run(), [run], []) == (0.0, 0.0, 1)


def test_a_time_limit_counts_the_learning_alone():
    assert new_run("small", steps=5000, seconds=7.0).whole_seconds == pytest.approx(
        7 + new_run("small").measuring_seconds
    )


@pytest.fixture
def learned(corpus: Corpus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """What a process tells that is told these things, the last before the other end is closed."""
    (tmp_path / "text.txt").write_text(corpus.text)
    for name in ("nice", "signal"):  # These are for a process of its own.
        module = learning.os if name == "nice" else learning.signal
        monkeypatch.setattr(module, name, lambda *_: None, raising=False)

    def learn(settings: dict[str, Any], *messages: Turn | None) -> tuple[list[Any], int | None]:
        ours, theirs = Pipe()
        told: list[Any] = []

        def listen() -> None:
            for message in messages:
                ours.send(message)
            while (event := ours.recv()) != "end":
                told.append(event)

        listener = threading.Thread(target=listen)
        listener.start()
        recipe = presets.recipe("bigram", {"block_size": 8} | settings)
        code = None
        try:
            learning.learn(recipe, str(tmp_path / "text.txt"), tmp_path / "model", theirs)
        except SystemExit as error:
            code = error.code
        finally:
            theirs.send("end")
            listener.join()
        return told, code

    return learn


def test_a_process_keeps_its_steps_within_bounds(
    learned: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(learning, "MAX_KEPT_BYTES_A_RUN", 80_000)
    told, code = learned({"steps": 40, "eval_interval": 4}, Turn(60.0, 1))
    assert code is None and told[-1] == {"finished": True}
    assert set(told[0]["baselines"]) == {"uniform", "bigram"}
    evaluated = [event["step"] for event in told if "val_loss" in event]
    steps = kept_steps(tmp_path / "model")
    assert evaluated == list(range(0, 41, 4)) and set(steps) < set(evaluated)
    assert (steps[0], steps[-1]) == (0, 40) and len(steps) > 2
    for step in steps:
        assert checkpoints.load(folder_of(tmp_path / "model", step)).record["steps"] == step
    files = [path for step in steps for path in folder_of(tmp_path / "model", step).iterdir()]
    assert sum(path.stat().st_size for path in files) <= 80_000
    record = checkpoints.load(tmp_path / "model").record
    assert record["command"].startswith("python -m charlm train bigram --block-size 8 --steps 40 ")
    assert record["command"].endswith(" --out model --data text.txt")


def test_a_process_tells_when_a_turn_is_over_and_stops_when_told(learned: Any, tmp_path: Path):
    told, code = learned(
        {"steps": 4000, "eval_interval": 1000}, Turn(0.0, 1), Turn(0.0, 1), None, Turn(9.0, 1)
    )
    assert code is None
    assert [event["step"] for event in told if "step" in event] == [0, 1]
    assert [i for i, event in enumerate(told) if event == learning.PAUSED] == [2, 4]
    assert checkpoints.load(tmp_path / "model").record["steps"] == 1


def test_a_process_that_is_stopped_before_its_first_step_keeps_nothing(learned: Any, tmp_path: Path):
    told, code = learned({}, Turn(0.0, 1), None, Turn(9.0, 1))
    assert code is None and told[-1] == {"finished": True}
    assert not (tmp_path / "model").exists()


def test_a_process_tells_why_it_fails(learned: Any, monkeypatch: pytest.MonkeyPatch):
    told, code = learned({"block_size": 4000}, Turn(60.0, 1))
    assert code == 1 and "A chunk of 4000 characters" in told[-1]["failed"]

    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(learning, "Trainer", full)
    assert learned({}, Turn(60.0, 1)) == ([{"failed": "There is not enough memory for this."}], 1)
    monkeypatch.setattr(learning, "Trainer", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        learned({}, Turn(60.0, 1))


def test_a_process_ends_when_nobody_is_there(tmp_path: Path, learned: Any):
    ours, theirs = Pipe()
    ours.close()
    learning.learn(presets.recipe("bigram"), None, tmp_path / "model", theirs)
    assert not (tmp_path / "model").exists()
