"""Training runs of visitors: each a process of its own, its owner's alone, queued and within a budget.

A run is the command line's `train --events` in a folder of its own. It ends by itself when the app
that started it goes away.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import logging
import math
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from charlm import checkpoints
from charlm.errors import CharlmError
from charlm.service import estimate, kept, limits
from charlm.service.visitors import Visitors
from charlm.training import presets
from charlm.training.measures import Measures
from charlm.training.presets import Recipe
from charlm.training.trainer import ProgressEvent

EVALUATIONS = 12
"""How often a run is evaluated, about."""
ROOT = Path(__file__).resolve().parent.parent.parent
THIS = "this"
"""As the guess of a run: that it will end lower itself."""
MODEL, TEXT = "model", "text.txt"
"""What lies in a run's folder: its checkpoint, and while it learns the text."""
FAILED = "The training process ended unexpectedly."
KEPT = "What it had learned before is among your models."
SILENT = "The training process fell silent and was ended."
AWAY = "You were away, so your place in the line went to the next: press Train to wait again."
CROWDED = "The line is full, and places are shared among all who wait: please try again in a few minutes."

PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE"}
"""A thread of a run that waits for another sleeps. If it spun, as it would by itself, whoever has a core
beside it would make a step many times longer, and the run would slow others for nothing."""
SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_TO_READ = 5
"""How long the last words of a process are waited for."""

log = logging.getLogger(__name__)


@dataclass
class Run:
    """One visitor's training run. `state` is queued, running, done, stopped, failed or diverged."""

    visitor: str
    name: str
    recipe: Recipe
    folder: Path
    guess: str | None = None
    """Which run its visitor expects to end lower: the id of another, or `THIS`; None: did not guess."""
    text_id: str = ""
    """The same for runs of the same text; empty for Tiny Shakespeare."""
    number: int = 1
    """Of its visitor's runs, from 1 on: by this and the colour that comes with it, it is told apart."""
    state: str = "queued"
    error: str = ""
    """Why it failed or diverged, a sentence."""
    progress: ProgressEvent = field(
        default_factory=lambda: ProgressEvent(step=0, done=0.0, seconds=0.0, chars_per_second=0.0)
    )
    evaluations: list[ProgressEvent] = field(default_factory=list)
    batch_losses: list[tuple[int, float, float]] = field(default_factory=list)
    """(step, loss, seconds) of every `stride`-th step."""
    stride: int = 1
    measures: list[Measures] = field(default_factory=list)
    """What training did to each layer at some of its steps."""
    baselines: dict[str, float] = field(default_factory=dict)
    id: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    process: Any = None
    """A `subprocess.Popen`, once it has begun."""
    stopping: bool = False
    removed: bool = False
    """Whether its visitor wants nothing to be left of it."""
    diverged: str = ""
    """The sentence by which its process told that it diverges."""

    @property
    def model(self) -> Path:
        """The folder of the checkpoint that the run leaves."""
        return self.folder / MODEL

    @property
    def kept_steps(self) -> list[int]:
        """The steps at which the model can be asked for, in order: of the evaluations, those of which a
        checkpoint is still there."""
        return kept.kept_steps(self.model)

    @property
    def active(self) -> bool:
        return self.state in ("queued", "running")


class TrainingRuns:
    """Starts, watches, stops and forgets the runs. Safe for any number of threads."""

    def __init__(self, visitors: Visitors, max_running: int | None = None):
        self.max_running = max_running or max(1, (os.cpu_count() or 1) // 2)
        self._visitors = visitors
        self._runs: list[Run] = []
        self._lock = threading.RLock()
        """For the list and the states alone: nothing slow is done with it."""
        self._listeners: list[Callable[[Run], object]] = []
        visitors.on_sweep(self._forget_the_gone)
        atexit.register(self.close)

    def on_trained(self, listener: Callable[[Run], object]) -> None:
        """`listener(run)` is called when a run has left a model."""
        self._listeners.append(listener)

    def start(
        self,
        visitor: str,
        name: str,
        preset: str,
        settings: Mapping[str, Any],
        *,
        steps: int | None = None,
        seconds: float | None = None,
        text: str | None = None,
        guess: str | None = None,
    ) -> Run:
        """Queues the training of `preset` with other `settings` (by the names of `presets.SIZES`,
        `parts.CHOICES` and `presets.OPTIONS`) on `text` (None: Tiny Shakespeare). `steps` and `seconds` go
        before those among the settings; `guess` is what `Run.guess` says.

        Raises `CharlmError` if the visitor is nobody or has a run already, the request is out of bounds, or
        the queue is full.
        """
        self._visitors.check(visitor)
        limits.check_run(name, preset, settings, steps, seconds)
        if guess not in (None, THIS) and self.find(visitor, guess) is None:
            raise CharlmError("The run that you guess to end lower is not here any more.")
        if text is not None:
            text = text.replace("\r\n", "\n").replace("\r", "\n")  # as in a file that is read
        recipe = _recipe(preset, settings, steps, seconds, text)
        run = Run(visitor, name, recipe, self._visitors.new_folder(), guess)
        if text is not None:
            run.text_id = hashlib.sha256(text.encode()).hexdigest()
        try:
            if text is not None:
                (run.folder / TEXT).write_bytes(text.encode())
            self._queue(run)
        except CharlmError:
            shutil.rmtree(run.folder, ignore_errors=True)
            raise
        except OSError as error:
            shutil.rmtree(run.folder, ignore_errors=True)
            raise CharlmError(f"Your text could not be kept on the server: {error.strerror}.") from error
        return run

    def _queue(self, run: Run) -> None:
        with self._lock:
            mine = self.of(run.visitor)
            if mine is not None and mine.active:
                raise CharlmError(f"Your run {mine.name!r} is not finished: stop it first.")
            waiting = self._line()
            if len(waiting) >= limits.MAX_WAITING_RUNS:
                # The last of the line is the last of whoever has most places.
                last = waiting[-1]
                places = Counter(self._client(r) for r in waiting)
                if places[self._client(run)] + 1 >= places[self._client(last)]:
                    raise CharlmError(CROWDED)
                last.state, last.error = "failed", CROWDED
            run.number = 1 + max((r.number for r in self._all_of(run.visitor)), default=0)
            self._runs.append(run)
            ended = [run for run in self._all_of(run.visitor) if not run.active]
            surplus = max(0, len(self._all_of(run.visitor)) - limits.MAX_RUNS)
            dropped = ended[:surplus]
            self._runs = [run for run in self._runs if run not in dropped]
            self._fill()
        for old in dropped:
            _clear(old)

    def _client(self, run: Run) -> str:
        return self._visitors.client(run.visitor)

    def _line(self) -> list[Run]:
        """Who waits, in the order in which they begin: everybody's first, then everybody's second. With
        the lock."""
        places: Counter[str] = Counter()
        turns = []
        for run in self._runs:
            if run.state == "queued":
                places[self._client(run)] += 1
                turns.append((places[self._client(run)], run))
        return [run for _, run in sorted(turns, key=lambda turn: turn[0])]

    def of(self, visitor: str) -> Run | None:
        """The latest run of `visitor`, if there is one."""
        return next(reversed(self.all_of(visitor)), None)

    def all_of(self, visitor: str) -> list[Run]:
        """The runs of `visitor`, oldest first: at most `limits.MAX_RUNS`."""
        self._visitors.touch(visitor)
        with self._lock:
            return self._all_of(visitor)

    def _all_of(self, visitor: str) -> list[Run]:
        return [run for run in self._runs if run.visitor == visitor and not run.removed]

    def find(self, visitor: str, id: str | None) -> Run | None:
        """The run of `visitor` with this `id`, if there is one."""
        return next((run for run in self.all_of(visitor) if run.id == id), None)

    def remove(self, visitor: str, id: str) -> None:
        """Forgets a run of `visitor`, and ends it first if it is active. A model that it has left stays."""
        run = self.find(visitor, id)
        if run is None:
            return
        with self._lock:
            run.removed = run.stopping = True
            if run.state == "queued":
                run.state = "stopped"
            ended = not run.active
            self._runs = [other for other in self._runs if other is not run or not ended]
        if ended:
            _clear(run)
        elif run.process is not None:
            run.process.kill()

    def find_kept(self, name: str) -> tuple[Run, int] | None:
        """The run and the step that the model called `name` is of, if it is kept."""
        with self._lock:
            runs = [run for run in self._runs if name.startswith(run.id) and not run.removed]
        names = {kept.kept_name(run.id, step): (run, step) for run in runs for step in run.kept_steps}
        return names.get(name)

    def place(self, run: Run) -> int:
        """1 for the next in line, 0 for a run that does not wait."""
        with self._lock:
            waiting = self._line()
            return waiting.index(run) + 1 if run in waiting else 0

    def stop(self, visitor: str) -> None:
        """Ends the run of `visitor`; what it has learned is kept."""
        run = self.of(visitor)
        with self._lock:
            if run is None or not run.active:
                return
            run.stopping = True
            if run.state == "queued":
                run.state = "stopped"
        _ask_to_stop(run)

    def close(self) -> None:
        """Ends all runs."""
        with self._lock:
            active = [run for run in self._runs if run.active]
            for run in active:
                run.stopping = True
                run.state = "stopped"
        for run in active:
            if run.process is not None:
                run.process.kill()
                run.process.wait()

    def _fill(self) -> None:
        """Begins the next runs in line, as long as there is a place. With the lock, so it must be quick."""
        free = self.max_running - sum(run.state == "running" for run in self._runs)
        for run in self._line()[: max(0, free)]:
            run.state = "running"
            threading.Thread(target=self._train, args=(run,), daemon=True, name="charlm-run").start()

    def _train(self, run: Run) -> None:
        """Begins a run, follows it to its end, and gives its place to the next whatever happens."""
        complaint = FAILED
        try:
            run.process = _begin(run)
            if run.removed:  # Whoever removed or stopped it meanwhile found no process to tell.
                run.process.kill()
            elif run.stopping:
                _ask_to_stop(run)
            complaint = _follow(run, self._make_room)
            if not run.removed and _has_model(run):
                complaint = f"{complaint} {KEPT}" if run.process.returncode else ""
                for listener in self._listeners:
                    listener(run)
        except CharlmError as error:
            complaint = str(error)
        except Exception:
            log.exception("A training run could not be followed to its end")
            if run.process is not None:
                run.process.kill()
        finally:
            with self._lock:
                run.state = _ending(run, complaint)
                run.error = complaint if run.state in ("failed", "diverged") else ""
                if run.removed:
                    self._runs.remove(run)
                self._fill()
            if run.removed:
                _clear(run)

    def _make_room(self) -> None:
        """Removes kept steps that there is no room for."""
        with self._lock:
            runs = [kept.KeptRun(self._client(run), run.model, run.active) for run in self._runs]
        kept.make_room(runs, limits.MAX_KEPT_BYTES)

    def _forget_the_gone(self) -> None:
        """Drops from the line who is away, and removes the finished runs of visitors who are gone."""
        with self._lock:
            for run in self._line():
                if self._visitors.is_gone(run.visitor, limits.AWAY_SECONDS):
                    run.state, run.error = "failed", AWAY
            gone = [run for run in self._runs if not run.active and self._visitors.is_gone(run.visitor)]
            self._runs = [run for run in self._runs if run not in gone]
        for run in gone:
            shutil.rmtree(run.folder, ignore_errors=True)


def _recipe(
    preset: str, settings: Mapping[str, Any], steps: int | None, seconds: float | None, text: str | None
) -> Recipe:
    """What a request asks for, its gaps filled. Raises `CharlmError` if the settings do not fit together, or
    the text cannot be trained on."""
    changes = dict(settings)
    changes["steps"] = steps or settings.get("steps") or limits.MAX_STEPS
    changes["seconds"] = seconds or settings.get("seconds") or limits.MAX_RUN_SECONDS
    recipe = presets.recipe(preset, changes)
    if text is not None:
        recipe = replace(recipe, vocab_size=limits.check_corpus(text, recipe.config.block_size))
        limits.check_work(recipe)
    expected = min(changes["steps"], changes["seconds"] / estimate.seconds_per_step(recipe))
    eval_interval = settings.get("eval_interval") or max(1, round(expected / EVALUATIONS))
    least = math.ceil(expected / limits.MAX_EVALUATIONS)
    if eval_interval < least:
        raise CharlmError(
            f"A run is evaluated at most {limits.MAX_EVALUATIONS} times: with about {expected:,.0f} steps, "
            f"eval_interval must be {least} or more, not {eval_interval}."
        )
    return replace(recipe, options=replace(recipe.options, eval_interval=eval_interval))


def _begin(run: Run) -> subprocess.Popen[str]:
    """Starts the process that trains."""
    command = [sys.executable, "-m", "charlm", "train", *run.recipe.arguments()]
    command += ["--out", MODEL, "--events"]
    if (run.folder / TEXT).exists():
        command += ["--data", TEXT]
    path = str(ROOT), os.environ.get("PYTHONPATH")
    process = subprocess.Popen(
        command,
        cwd=run.folder,
        env=PASSIVE | os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    if hasattr(os, "setpriority"):
        # Whoever reads or writes on the page goes first.
        os.setpriority(os.PRIO_PROCESS, process.pid, 10)
    return process


def _ask_to_stop(run: Run) -> None:
    if run.process is not None:
        run.process.stdin.close()


def _ending(run: Run, complaint: str) -> str:
    """The state of a run that has ended with a `complaint`, or without."""
    if run.diverged:
        return "diverged"
    return "stopped" if run.stopping else "failed" if complaint else "done"


def _clear(run: Run) -> None:
    """Removes all of a run but its model, which is its visitor's as long as it is there."""
    if not run.model.exists():
        shutil.rmtree(run.folder, ignore_errors=True)
        return
    for path in run.folder.iterdir():
        if path != run.model:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _has_model(run: Run) -> bool:
    """Whether a run has left a model that has learned something: if it was killed, the last that it had
    written whole."""
    if run.process.returncode:
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
                shutil.copytree(folder, run.model)
            return


def _follow(run: Run, evaluated: Callable[[], object]) -> str:
    """Takes note of what a run tells, until it ends, and calls `evaluated` after each evaluation. Returns its
    last complaint, a sentence."""
    process = run.process
    heard = [time.monotonic()]
    complaints: deque[str] = deque(maxlen=20)

    def listen() -> None:
        for event in _events(process.stdout):
            heard[0] = time.monotonic()
            _note(run, event)
            if "val_loss" in event:
                evaluated()

    listeners = [
        threading.Thread(target=target, daemon=True)
        for target in (listen, lambda: complaints.extend(process.stderr))
    ]
    for listener in listeners:
        listener.start()
    ended = _wait(process, heard)
    for listener in listeners:
        # What the process started may outlive it, and hold its pipes.
        listener.join(SECONDS_TO_READ)
    _close_pipes(process, listeners)
    (run.folder / TEXT).unlink(missing_ok=True)
    if process.returncode and not run.stopping:
        log.warning("A training process ended with %s: %s", process.returncode, "".join(complaints))
    sentences = [line.removeprefix("charlm: ") for line in complaints if line.startswith("charlm: ")]
    return SILENT if ended else sentences[-1].strip() if sentences else FAILED


def _close_pipes(process: subprocess.Popen[str], listeners: list[threading.Thread]) -> None:
    """Gives back what a process that has ended holds, but for what somebody still listens to."""
    pipes = (process.stdout, process.stderr)
    for pipe, listener in zip(pipes, listeners, strict=True):
        if pipe is not None and not listener.is_alive():
            pipe.close()
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()


def _note(run: Run, event: dict[str, Any]) -> None:
    if "baselines" in event:
        run.baselines = event["baselines"]
    elif "diverged" in event:
        run.diverged = event["diverged"]
    elif "step" in event:
        run.progress = cast(ProgressEvent, event)
        if "val_loss" in event:
            run.evaluations.append(run.progress)
        if "measures" in event:
            run.measures.append(event["measures"])
        if "batch_loss" in event:
            _note_batch_loss(run, event["step"], event["batch_loss"], event["seconds"])


def _note_batch_loss(run: Run, step: int, loss: float, seconds: float) -> None:
    """Keeps a loss, or leaves it out: so many are kept of a run, at even distances."""
    if step % run.stride:
        return
    run.batch_losses.append((step, loss, seconds))
    if len(run.batch_losses) > limits.MAX_BATCH_LOSSES:
        run.stride *= 2
        run.batch_losses = [kept for kept in run.batch_losses if kept[0] % run.stride == 0]


def _wait(process: subprocess.Popen[str], heard: list[float]) -> bool:
    """Waits for the end of a process. Whether it had to be ended, because it was last `heard` of long ago,
    or did not come to its end."""
    latest = time.monotonic() + limits.MAX_RUN_SECONDS + limits.GRACE_SECONDS
    while True:
        try:
            process.wait(SECONDS_BETWEEN_LOOKS)
            return False
        except subprocess.TimeoutExpired:
            now = time.monotonic()
            if now > latest or now - heard[0] > limits.SILENCE_SECONDS:
                process.kill()
                process.wait()
                return True


def _events(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """The events that a run prints, a line each. What is none is logged and left out."""
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if isinstance(event, dict):
            yield event
        else:
            log.warning("A training run printed what is no event: %.200s", line)
