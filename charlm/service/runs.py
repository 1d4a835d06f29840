"""Training runs of visitors: each a process of its own, its owner's alone, within a budget. They share the
machine in turns; those for which there is no memory wait in line."""

from __future__ import annotations

import atexit
import hashlib
import logging
import math
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from charlm.engine.decoding import CORES
from charlm.errors import CharlmError
from charlm.service import estimate, following, kept, limits, outlook
from charlm.service.naming import told_apart
from charlm.service.outlook import Outlook
from charlm.service.run import TEXT, THIS, Run
from charlm.service.turns import Turns
from charlm.service.visitors import Visitors
from charlm.training import presets
from charlm.training.presets import Recipe

EVALUATIONS = 12
"""How often a run is evaluated, about."""
AWAY = "You were away, so your place in the line went to the next: press Train to wait again."
CROWDED = "The line is full, and places are shared among all who wait: please try again in a few minutes."

log = logging.getLogger(__name__)


class TrainingRuns:
    """Starts, watches, stops and forgets the runs. Safe for any number of threads."""

    def __init__(self, visitors: Visitors):
        following.prepare_environment()
        self.max_running = limits.MAX_RUNNING_RUNS if following.FORKED else CORES
        self._visitors = visitors
        self._turns = Turns()
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
        before those among the settings; `guess` is what `Run.guess` says. A number is added to a `name` that
        another run of the visitor has.

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
        try:
            if text is not None:
                data = text.encode()
                run.text_id, run.chars = hashlib.sha256(data).hexdigest(), len(text)
                (run.folder / TEXT).write_bytes(data)
            run.prepare()
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
            run.name = told_apart(run.name, {r.name for r in self._all_of(run.visitor)})
            run.number = 1 + max((r.number for r in self._all_of(run.visitor)), default=0)
            self._runs.append(run)
            ended = [run for run in self._all_of(run.visitor) if not run.active]
            surplus = max(0, len(self._all_of(run.visitor)) - limits.MAX_RUNS)
            dropped = ended[:surplus]
            self._runs = [run for run in self._runs if run not in dropped]
            self._fill()
        for old in dropped:
            following.clear(old)

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
        if (run := self.find(visitor, id)) is not None:
            self._remove(run)

    def _remove(self, run: Run) -> None:
        with self._lock:
            run.removed = run.stopping = True
            if run.state == "queued":
                run.state = "stopped"
            ended = not run.active
            self._runs = [other for other in self._runs if other is not run or not ended]
            self._fill()
        if ended:
            following.clear(run)
        else:
            following.end(run)

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

    def outlook(self, run: Run) -> Outlook:
        """When an active run begins and ends, as far as can be told, and how many others learn beside it."""
        with self._lock:
            running = [run for run in self._runs if run.state == "running"]
            waiting = self._line()
        return outlook.foresee(run, running, waiting)

    def stop(self, visitor: str) -> None:
        """Ends the run of `visitor`; what it has learned is kept."""
        run = self.of(visitor)
        with self._lock:
            if run is None or not run.active or run.stopping:
                return
            run.stopping = True
            if run.state == "queued":
                run.state = "stopped"
                self._fill()
                return
        self._turns.stop(run)

    def close(self) -> None:
        """Ends all runs."""
        with self._lock:
            active = [run for run in self._runs if run.active]
            for run in active:
                run.removed = run.stopping = True
                run.state = "stopped"
        for run in active:
            following.end(run)

    def _fill(self) -> None:
        """Begins the next runs in line, as long as there is room. With the lock, so it must be quick."""
        running = [run for run in self._runs if run.state == "running"]
        places = Counter(self._client(run) for run in running)
        for run in self._line():
            if places[self._client(run)] >= limits.MAX_RUNNING_RUNS_A_CLIENT:
                continue
            held = run.held_bytes + sum(other.held_bytes for other in running)
            if len(running) >= self.max_running or (running and held > limits.MAX_HELD_BYTES):
                return
            places[self._client(run)] += 1
            running.append(run)
            run.state = "running"
            threading.Thread(target=self._train, args=(run,), daemon=True, name="charlm-run").start()

    def _train(self, run: Run) -> None:
        """Begins a run, follows it to its end, and gives its place to the next whatever happens."""
        complaint = following.FAILED
        try:
            following.begin(run)
            self._turns.join(run)
            if run.removed:  # Whoever removed or stopped it meanwhile found no process to tell.
                following.end(run)
            elif run.stopping:
                self._turns.stop(run)
            try:
                following.follow(run, self._turns, self._make_room)
            finally:
                self._turns.leave(run)
            learned = not run.removed and following.has_model(run)
            complaint = following.complaint_of(run, learned)
            if learned:
                for listener in self._listeners:
                    listener(run)
        except CharlmError as error:
            complaint = str(error)
        except Exception:
            log.exception("A training run could not be followed to its end")
            following.end(run)
        finally:
            with self._lock:
                run.state = _ending(run, complaint)
                run.error = complaint if run.state in ("failed", "diverged") else ""
                if run.removed:
                    self._runs.remove(run)
                self._fill()
            if run.removed:
                following.clear(run)

    def _make_room(self) -> None:
        """Removes kept steps that there is no room for."""
        with self._lock:
            runs = [kept.KeptRun(self._client(run), run.model, run.active) for run in self._runs]
        kept.make_room(runs, limits.MAX_KEPT_BYTES)

    def _forget_the_gone(self) -> None:
        """Drops from the line who is away, and removes the runs of visitors who are gone: nobody will look
        at what they learn."""
        with self._lock:
            for run in self._line():
                if self._visitors.is_gone(run.visitor, limits.AWAY_SECONDS):
                    run.state, run.error = "failed", AWAY
            self._fill()
            gone = [run for run in self._runs if self._visitors.is_gone(run.visitor)]
        for run in gone:
            self._remove(run)
            if not run.active:
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


def _ending(run: Run, complaint: str) -> str:
    """The state of a run that has ended with a `complaint`, or without."""
    if run.diverged:
        return "diverged"
    return "stopped" if run.stopping else "failed" if complaint else "done"
