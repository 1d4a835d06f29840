"""The models in the making that runs keep: their names, their bounds, and how they vanish."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from conftest import TEXT, TINY, make_model, wait_for

from charlm import CharlmError, Corpus, checkpoints
from charlm.engine.sampling import SamplingOptions
from charlm.service import limits
from charlm.service.kept import KeptRun, folder_of, kept_steps, make_room, thin_out
from charlm.service.models import NO_SUCH_MODEL, ModelService
from charlm.service.run import Run
from charlm.tokenizer import CharTokenizer
from charlm.training import presets
from charlm.training.excerpt import EXCERPT, make_excerpt

MakeRun = Callable[..., Run]


@pytest.fixture
def make_run(service: ModelService, corpus: Corpus, tokenizer: CharTokenizer) -> MakeRun:
    """A run of a visitor that has kept some steps, without a process."""

    def make_run(visitor: str, *steps: int, state: str = "done", architecture: str = "gpt") -> Run:
        folder = service.visitors.new_folder()
        run = Run(visitor, "my model", presets.recipe("small", TINY), folder, state=state)
        model = make_model(tokenizer, architecture)
        excerpt = make_excerpt(corpus, model, corpus.split(tokenizer)[0])
        for step in steps:
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(0.02)
            record = {"data": "colours", "steps": step, "val_loss": 2.5, EXCERPT: excerpt.to_json()}
            checkpoints.save(model, record, folder_of(run.model, step))
        service.runs._runs.append(run)
        return run

    return make_run


def test_a_step_works_wherever_a_model_does(service: ModelService, ann: str, bob: str, make_run: MakeRun):
    run = make_run(ann, 0, 30, state="running")
    assert run.kept_steps == [0, 30]
    first, name = (service.kept_name(run, step) for step in run.kept_steps)
    assert service.get(name) is service.get(name) is not service.get(first)
    assert service.get(name).record["steps"] == 30
    info = service.info(name)
    assert (info.title, info.val_loss, info.has_attention) == ("my model at step 30", 2.5, True)
    assert info.description == "Your model after 30 steps of training on colours."
    assert "colours" in service.excerpt(name).description
    assert service.loss(name) != service.loss(first)
    assert len(list(service.stream(name, "ANN", SamplingOptions(max_new_chars=5)))) == 5
    changed = f"{name}/1.1:silent"
    assert service.info(changed).title == "my model at step 30, without head 1·1"
    assert service.loss(changed) != service.loss(name)
    assert service.measure_heads(name).result(60) is service.heads(name) is not None
    assert service.heads_progress(name) == 1

    assert service.shared_name(name) is service.shared_name(changed) is None
    assert service.own_names(ann) == service.own_names(bob) == []
    kept = service.keep_operated(ann, changed)
    assert service.own_names(ann) == [kept]


def test_a_name_that_is_none_finds_nothing(service: ModelService, ann: str, make_run: MakeRun):
    run = make_run(ann, 0, 30)
    (run.folder / "model-7").mkdir()
    (run.folder / "model-7" / checkpoints.WEIGHTS).write_bytes(b"half a checkpoint")
    assert run.kept_steps == [0, 30]
    wrong = (
        *("@", "@0", f"@{run.id}", run.id, f"{run.id}@", f"{run.id}@7", f"{run.id}@030", f"{run.id}@-0"),
        *(f"{run.id}@٣٠", f"{run.id}@0@30", f"{run.id[:-1]}@0", f"{run.id}@..", "gpt@0", "..@0"),
    )
    for name in wrong:
        assert service.find(name) is service.shared_name(name) is service.heads(name) is None
        for ask in (service.get, service.info, service.loss, service.excerpt, service.measure_heads):
            with pytest.raises(CharlmError, match=NO_SUCH_MODEL):
                ask(name)


def test_a_step_that_has_gone_is_nobodys(service: ModelService, ann: str, make_run: MakeRun):
    run = make_run(ann, 0, 30)
    name = service.kept_name(run, 30)
    service.measure_heads(name).result(60)
    changed = f"{name}/1.1:silent"
    service.get(changed)
    thin_out(run.model, [30], 0)
    assert run.kept_steps == [0, 30]  # The first and the latest stay.
    make_room([KeptRun("", run.model, active=False)], 0)
    assert run.kept_steps == []
    assert service.find(name) is service.find(changed) is service.heads(name) is None
    for gone in (name, changed):
        with pytest.raises(CharlmError, match=NO_SUCH_MODEL):
            service.get(gone)
    assert not service._kept and name not in service._models and name not in service._used


def test_steps_vanish_with_their_visitor(
    service: ModelService, ann: str, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
):
    run = make_run(ann, 0, 30)
    name = service.kept_name(run, 30)
    service.get(name)
    service.visitors.sweep()
    assert name in service._models
    monkeypatch.setattr(limits, "FORGET_AFTER_SECONDS", -1)
    service.visitors.sweep()
    assert not run.folder.exists()
    assert run.kept_steps == []
    assert name not in service._models and not service._kept
    with pytest.raises(CharlmError, match=NO_SUCH_MODEL):
        service.get(name)


@pytest.mark.parametrize("state", ["done", "running"])
def test_steps_vanish_with_their_run(state: str, service: ModelService, ann: str, make_run: MakeRun):
    run = make_run(ann, 0, 30, state=state)
    checkpoints.save(service.get(service.kept_name(run, 30)), {"data": "colours"}, run.model)
    service.runs.remove(ann, run.id)
    for step in (0, 30):
        with pytest.raises(CharlmError, match=NO_SUCH_MODEL):
            service.get(service.kept_name(run, step))
    # Those of a run that learns are removed when its process has ended.
    assert run.kept_steps == ([0, 30] if state == "running" else [])
    assert checkpoints.load(run.model).record["data"] == "colours"


def test_whoever_plays_a_step_is_here(service: ModelService, ann: str, make_run: MakeRun):
    run = make_run(ann, 0)
    service.visitors._seen.clear()
    assert service.visitors.is_gone(ann)
    service.get(service.kept_name(run, 0))
    assert not service.visitors.is_gone(ann)


def test_steps_that_nobody_uses_leave_the_memory(
    service: ModelService, ann: str, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
):
    run = make_run(ann, 0, 10, 20, 30)
    size = sum(path.stat().st_size for path in folder_of(run.model, 0).iterdir())
    monkeypatch.setattr(limits, "MAX_OWN_MEMORY", 3 * 2 * (size + 100))
    first, second, third, fourth = (service.kept_name(run, step) for step in run.kept_steps)
    models = {name: service.get(name) for name in (first, second, third)}
    assert service.get(first) is models[first]
    service.get(fourth)
    assert service.get(first) is models[first]
    assert service.get(second) is not models[second]
    assert service._models.keys() & {first, second, third, fourth} == {first, second, fourth}


def write(model: Path, step: int, size: int = 10) -> None:
    folder = folder_of(model, step)
    folder.mkdir(parents=True)
    (folder / checkpoints.CONFIG).write_bytes(b"c" * 2)
    (folder / checkpoints.WEIGHTS).write_bytes(b"w" * (size - 2))


def test_a_run_is_thinned_out_evenly_as_it_grows(tmp_path: Path):
    model = tmp_path / "model"
    kept = {}
    for step in range(0, 130, 10):
        write(model, step)
        thin_out(model, range(0, step + 1, 10), 50)
        kept[step] = kept_steps(model)
    assert kept[40] == [0, 10, 20, 30, 40]
    assert kept[50] == [0, 20, 30, 40, 50]
    for step, steps in kept.items():
        assert (steps[0], steps[-1]) == (0, step) and len(steps) == min(5, step // 10 + 1)
        gaps = [after - before for before, after in pairwise(steps)]
        assert max(gaps, default=0) <= 2 * step / 4 or step < 50
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"model-{s}" for s in kept[120])


def test_only_steps_of_the_run_itself_are_thinned_out(tmp_path: Path):
    for step in (0, 10, 15, 20):
        write(tmp_path / "model", step)
    thin_out(tmp_path / "model", [0, 10, 20], 0)
    assert kept_steps(tmp_path / "model") == [0, 15, 20]


def test_those_who_have_most_make_way_and_active_runs_keep_their_latest(tmp_path: Path):
    runs = []
    for client, folder, steps, active in (
        ("b", "b1", 3, False),
        ("a", "a1", 3, False),
        ("a", "a2", 4, True),
    ):
        model = tmp_path / folder / "model"
        for step in range(steps):
            write(model, step)
        runs.append(KeptRun(client, model, active))

    def left() -> list[list[int]]:
        return [kept_steps(run.model) for run in runs]

    make_room(runs, 100)
    assert left() == [[0, 1, 2], [0, 1, 2], [0, 1, 2, 3]]
    for most, expected in (
        (90, [[0, 1, 2], [0, 2], [0, 1, 2, 3]]),
        (70, [[0, 1, 2], [], [0, 1, 2, 3]]),
        (50, [[0, 2], [], [0, 2, 3]]),
        (0, [[], [], [3]]),
    ):
        make_room(runs, most)
        assert left() == expected


@pytest.mark.slow
def test_a_step_can_be_had_while_the_run_goes_on(
    service: ModelService, ann: str, monkeypatch: pytest.MonkeyPatch
):
    run = service.runs.start(ann, "one", "bigram", {"block_size": 8}, steps=2000, text=TEXT)
    wait_for(lambda: len(run.evaluations) > 1)
    told = [event["step"] for event in run.evaluations]
    assert run.active and set(told) <= set(run.kept_steps)
    assert [service.get(service.kept_name(run, step)).record["steps"] for step in told] == told
    assert not service.info(service.kept_name(run, 0)).has_attention
    monkeypatch.setattr(limits, "MAX_KEPT_BYTES", 0)
    known = len(told)
    wait_for(lambda: len(run.evaluations) > known)
    wait_for(lambda: told[0] not in run.kept_steps)
    assert run.kept_steps  # What is left if the process is killed.
    service.runs.stop(ann)
    wait_for(lambda: not run.active)
