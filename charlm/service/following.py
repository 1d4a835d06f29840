"""The process of a run: its beginning, what it tells until its end, and what is left of it."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from charlm import checkpoints
from charlm.errors import CharlmError
from charlm.service import kept, limits
from charlm.service.learning import PAUSED, learn
from charlm.service.run import MODEL, TEXT, Run
from charlm.service.turns import Turns

ROOT = Path(__file__).resolve().parent.parent.parent
FAILED = "The training process ended unexpectedly."
KEPT = "What it had learned before is among your models."
SILENT = "The training process fell silent and was ended."
ENDLESS = "The training process did not come to its end in time and was ended."
SECONDS_BETWEEN_LOOKS = 0.5
SPINS = "300"
"""How often a thread looks for the others before it sleeps. With none, a step takes a fourth longer when
nobody writes; with thousands, three times as long when somebody does."""

log = logging.getLogger(__name__)


FORKED = "forkserver" in multiprocessing.get_all_start_methods()
"""Whether processes are forked from one that has imported everything already; or else each imports it."""
_CONTEXT: Any = multiprocessing.get_context("forkserver" if FORKED else "spawn")
if FORKED:
    _CONTEXT.set_forkserver_preload(["charlm.service.forked"])


def prepare_environment() -> None:
    """Has the processes of runs find charlm, and their threads sleep soon when they wait for each other
    (GNU's OpenMP, which PyTorch has on Linux): if they spun, as they would by themselves, one that shares its
    core with somebody who writes would hold up the step and hardly ever get on."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if str(ROOT) not in path:
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), *path)))


def begin(run: Run) -> None:
    """Starts the process of a run, which waits for its first turn."""
    text = run.folder / TEXT
    data = str(text) if text.exists() else os.environ.get("CHARLM_DATA")
    run.connection, other = _CONTEXT.Pipe()
    arguments = run.recipe, data, run.model, other
    process = _CONTEXT.Process(target=learn, args=arguments, daemon=True, name="charlm-run")
    process.start()
    other.close()
    run.process = process


def follow(run: Run, turns: Turns, evaluated: Callable[[], object]) -> None:
    """Takes note of what a run tells, and has it take its turns, until its process ends. Calls `evaluated`
    after each evaluation. A process that says nothing for too long, or does not come to its end, is ended."""
    heard = time.monotonic()
    while True:
        try:
            event = run.connection.recv() if run.connection.poll(SECONDS_BETWEEN_LOOKS) else None
        except (EOFError, OSError):  # It has ended.
            break
        if event == PAUSED:
            turns.next(run)
        elif event is not None:
            run.note(event)
            if "val_loss" in event:
                evaluated()
        now = time.monotonic()
        heard = now if event is not None else heard
        if min(now - heard, turns.seconds(run)) > limits.SILENCE_SECONDS:
            run.complaint = SILENT
        elif run.computed + turns.seconds(run) > limits.MAX_RUN_SECONDS + limits.GRACE_SECONDS:
            run.complaint = ENDLESS
        else:
            continue
        end(run)
        break
    _let_go(run)
    (run.folder / TEXT).unlink(missing_ok=True)


def _let_go(run: Run) -> None:
    """Waits for the end of a process, and gives back what it held."""
    run.process.join()
    if not run.finished and not run.stopping:
        log.warning("A training process ended with %s: %s", run.process.exitcode, run.complaint)
    run.connection.close()
    run.process = None


def end(run: Run) -> None:
    """Ends the process of a run at once, whatever it does."""
    if (process := run.process) is not None:
        process.kill()


def has_model(run: Run) -> bool:
    """Whether a run that has ended has left a model that has learned something: if it was killed, the last
    that it had written whole."""
    if not run.finished:
        for folder in run.folder.glob(f"{MODEL}*"):
            if not (folder / checkpoints.CONFIG).exists():  # It was being written.
                shutil.rmtree(folder, ignore_errors=True)
        _take_the_latest(run)
    return (run.model / checkpoints.CONFIG).exists()


def _take_the_latest(run: Run) -> None:
    """Makes the latest of what a run has kept its model, and removes what is damaged of it. One that diverges
    has left what was worth it."""
    steps = [] if run.diverged else run.kept_steps[::-1]
    for folder in (run.model, *(kept.folder_of(run.model, step) for step in steps)):
        try:
            learned = checkpoints.load(folder).record["steps"]
        except CharlmError:  # The process ended between the two files of it.
            shutil.rmtree(folder, ignore_errors=True)
            continue
        if learned:
            if folder != run.model:
                folder.rename(run.model)
            return


def complaint_of(run: Run, has_model: bool) -> str:
    """Why the process of a run that has ended failed or diverged, in a sentence or two; "" if it did not."""
    if run.finished:
        return ""
    sentence = run.diverged or run.complaint or FAILED
    return f"{sentence} {KEPT}" if has_model else sentence


def clear(run: Run) -> None:
    """Removes all of a run but its model, which is its visitor's as long as it is there."""
    if not run.model.exists():
        shutil.rmtree(run.folder, ignore_errors=True)
        return
    for path in run.folder.iterdir():
        if path != run.model:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
