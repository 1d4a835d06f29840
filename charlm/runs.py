"""Training runs of visitors: each a process of its own, its owner's alone, queued and within a budget.

A run is the command line's `train --events` in a folder of its own. It ends by itself when the app
that started it goes away.
"""

from __future__ import annotations

import atexit
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from charlm import estimate, presets
from charlm.corpus import Corpus, get_batch
from charlm.errors import CharlmError, check_range
from charlm.tokenizer import CharTokenizer

TINY_SHAKESPEARE_VOCAB_SIZE = 65
MAX_TEXT_CHARS = 5_000_000
MAX_VOCAB_SIZE = 1_000
MAX_NAME_CHARS = 40
SIZE_LIMITS = {"block_size": 256, "n_layer": 8, "n_head": 8, "n_embd": 384}
MAX_STEPS = 5_000
MAX_SECONDS = 1800
"""The longest that a run may take, whatever was asked for."""
GRACE_SECONDS = 60
"""How long a run may take to write what it has learned, before it is killed."""
MAX_QUEUE = 20
FORGET_AFTER_SECONDS = 1800
"""How long what belongs to a visitor is kept after the last sign of life."""
EVALUATIONS = 12
"""How often a run is evaluated, about."""
ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Run:
    """One visitor's training run. `state` is queued, running, done, stopped or failed."""

    visitor: str
    name: str
    arguments: list[str]
    folder: Path
    state: str = "queued"
    error: str = ""
    progress: dict[str, Any] = field(default_factory=dict)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    baselines: dict[str, float] = field(default_factory=dict)
    id: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    process: Any = None
    """A `subprocess.Popen`, once it has begun."""
    stopping: bool = False

    @property
    def model(self) -> Path:
        """The folder of the checkpoint that the run leaves."""
        return self.folder / "model"

    @property
    def active(self) -> bool:
        return self.state in ("queued", "running")


class TrainingRuns:
    """Starts, watches, stops and forgets the runs. Safe for any number of threads."""

    def __init__(self, max_running: int | None = None):
        self.max_running = max_running or max(1, (os.cpu_count() or 1) // 2)
        self._runs: list[Run] = []
        self._seen: dict[str, float] = {}
        self._lock = threading.RLock()
        self._folder = Path(tempfile.mkdtemp(prefix="charlm-"))
        self._listeners: list[Callable[[Run], object]] = []
        atexit.register(self.close)

    def new_folder(self) -> Path:
        """A new folder that is removed when the app ends."""
        return Path(tempfile.mkdtemp(dir=self._folder))

    def on_trained(self, listener: Callable[[Run], object]) -> None:
        """`listener(run)` is called when a run has left a model."""
        self._listeners.append(listener)

    def start(
        self,
        visitor: str,
        name: str,
        preset: str,
        sizes: dict[str, int],
        *,
        steps: int | None = None,
        seconds: float | None = None,
        text: str | None = None,
    ) -> Run:
        """Queues the training of `preset` with other `sizes` on `text` (None: Tiny Shakespeare).

        Raises `CharlmError` if the request is out of bounds, the visitor has a run already, or the
        queue is full.
        """
        _check_request(name, preset, sizes, steps, seconds)
        vocab_size = TINY_SHAKESPEARE_VOCAB_SIZE
        if text is not None:
            vocab_size = check_text(text, (presets.find(preset).sizes | sizes)["block_size"])
        arguments = _arguments(preset, sizes, steps, seconds, vocab_size)
        with self._lock:
            mine = self.of(visitor)
            if mine is not None and mine.active:
                raise CharlmError(f"Your run {mine.name!r} is not finished: stop it first.")
            if sum(run.state == "queued" for run in self._runs) >= MAX_QUEUE:
                raise CharlmError(f"{MAX_QUEUE} runs are waiting already: please try again in a few minutes.")
            run = Run(visitor, name, arguments, self.new_folder())
            if text is not None:
                (run.folder / "text.txt").write_bytes(text.encode())
                run.arguments = [*arguments, "--data", "text.txt"]
            self._runs.append(run)
            self._fill()
            return run

    def of(self, visitor: str) -> Run | None:
        """The latest run of `visitor`, if there is one."""
        with self._lock:
            self.touch(visitor)
            return next((run for run in reversed(self._runs) if run.visitor == visitor), None)

    def touch(self, visitor: str) -> None:
        """Takes note that `visitor` is here."""
        self._seen[visitor] = time.monotonic()

    def is_gone(self, visitor: str) -> bool:
        """Whether `visitor` has given no sign of life for `FORGET_AFTER_SECONDS`."""
        return time.monotonic() - self._seen.get(visitor, float("-inf")) > FORGET_AFTER_SECONDS

    def place(self, run: Run) -> int:
        """1 for the next in line."""
        with self._lock:
            return (
                1 + [r for r in self._runs if r.state == "queued"].index(run) if run.state == "queued" else 0
            )

    def stop(self, visitor: str) -> None:
        """Ends the run of `visitor`; what it has learned is kept."""
        run = self.of(visitor)
        with self._lock:
            if run is None or not run.active:
                return
            run.stopping = True
            if run.process is None:
                run.state = "stopped"
            else:
                run.process.stdin.close()

    def close(self) -> None:
        """Ends all runs and removes what they left."""
        with self._lock:
            running = [run for run in self._runs if run.process is not None and run.state == "running"]
            for run in self._runs:
                run.state = "stopped" if run.state == "queued" else run.state
        for run in running:
            run.process.kill()
            run.process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _fill(self) -> None:
        free = self.max_running - sum(run.state == "running" for run in self._runs)
        for run in [run for run in self._runs if run.state == "queued"][:free]:
            command = [sys.executable, "-m", "charlm", "train", *run.arguments]
            run.process = subprocess.Popen(
                [*command, "--out", "model", "--events"],
                cwd=run.folder,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            if hasattr(os, "setpriority"):
                # Whoever reads or writes on the page goes first.
                os.setpriority(os.PRIO_PROCESS, run.process.pid, 10)
            run.state = "running"
            threading.Thread(target=self._watch, args=(run,), daemon=True).start()

    def _watch(self, run: Run) -> None:
        process = run.process
        killer = threading.Timer(MAX_SECONDS + GRACE_SECONDS, process.kill)
        killer.daemon = True
        killer.start()
        complaint: list[str] = []
        errors = threading.Thread(target=lambda: complaint.extend(process.stderr), daemon=True)
        errors.start()
        for line in process.stdout:
            event = json.loads(line)
            if "baselines" in event:
                run.baselines = event["baselines"]
                continue
            run.progress = event
            if "val_loss" in event:
                run.evaluations.append(event)
        process.wait()
        killer.cancel()
        errors.join()
        (run.folder / "text.txt").unlink(missing_ok=True)
        trained = (run.model / "config.json").exists()
        if trained:
            # Without our lock: listeners have locks of their own.
            for listener in self._listeners:
                listener(run)
        with self._lock:
            if trained:
                run.state = "stopped" if run.stopping else "done"
            elif run.stopping:
                run.state = "stopped"
            else:
                run.state = "failed"
                sentences = [
                    line.removeprefix("charlm: ") for line in complaint if line.startswith("charlm: ")
                ]
                run.error = sentences[-1].strip() if sentences else "The training process ended unexpectedly."
            self._fill()

    def forget_the_gone(self) -> None:
        """Removes the finished runs of visitors who are gone."""
        with self._lock:
            for run in [run for run in self._runs if not run.active and self.is_gone(run.visitor)]:
                self._runs.remove(run)
                shutil.rmtree(run.folder, ignore_errors=True)
            self._seen = {visitor: at for visitor, at in self._seen.items() if not self.is_gone(visitor)}


def check_text(text: str, block_size: int) -> int:
    """The vocab_size of `text`. Raises `CharlmError` if it is too long, too short or too varied to
    be trained on."""
    if len(text) > MAX_TEXT_CHARS:
        raise CharlmError(f"A text may have {MAX_TEXT_CHARS:,} characters: this one has {len(text):,}.")
    _check_characters(text)
    tokenizer = CharTokenizer.from_text(text or " ")
    if tokenizer.vocab_size > MAX_VOCAB_SIZE:
        raise CharlmError(
            f"This text has {tokenizer.vocab_size:,} different characters; a model here can tell "
            f"{MAX_VOCAB_SIZE:,} apart. Scripts with thousands of signs need tokens other than characters."
        )
    for data in Corpus(text, "").split(tokenizer):
        try:
            get_batch(data, 1, block_size)
        except CharlmError as error:
            raise CharlmError(
                f"This text is too short: the last tenth of it is kept for validation and must fill a "
                f"block of {block_size} characters, so it needs about {10 * (block_size + 1):,} characters."
            ) from error
    return tokenizer.vocab_size


def _check_characters(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = text[error.start]
        raise CharlmError(f"{half!a} at position {error.start} is half of a character alone.") from error


def _check_request(
    name: str, preset: str, sizes: dict[str, int], steps: int | None, seconds: float | None
) -> None:
    if not name.strip() or len(name) > MAX_NAME_CHARS:
        raise CharlmError(f"Give the model a name of 1 to {MAX_NAME_CHARS} characters.")
    _check_characters(name)
    presets.find(preset)
    for size, value in sizes.items():
        check_range(size, value, 1, SIZE_LIMITS[size])
    if steps is not None and not 1 <= steps <= MAX_STEPS:
        raise CharlmError(f"A run takes from 1 to {MAX_STEPS:,} steps, not {steps}.")
    if seconds is not None and not 1 <= seconds <= MAX_SECONDS:
        raise CharlmError(f"A run takes from 1 to {MAX_SECONDS:,} seconds, not {seconds}.")


def _arguments(
    preset: str, sizes: dict[str, int], steps: int | None, seconds: float | None, vocab_size: int
) -> list[str]:
    """What the command line is asked for. Raises `CharlmError` if the sizes do not fit together."""
    step_seconds = estimate.seconds_per_step(preset, sizes, vocab_size)
    expected = min(steps or MAX_STEPS, (seconds or MAX_SECONDS) / step_seconds)
    options = {
        "steps": steps or MAX_STEPS,
        "seconds": seconds or MAX_SECONDS,
        "eval_interval": max(1, round(expected / EVALUATIONS)),
    }
    arguments = [preset]
    for option, value in (options | sizes).items():
        arguments += ["--" + option.replace("_", "-"), str(value)]
    return arguments
