"""What the process of a run does: it learns when it has a turn, and tells what comes of it."""

from __future__ import annotations

import ctypes
import gc
import os
import shlex
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from charlm import checkpoints
from charlm.corpus import load_corpus
from charlm.errors import CharlmError, sentence_of
from charlm.service import kept
from charlm.service.limits import MAX_KEPT_BYTES_A_RUN, SECONDS_A_LOSS
from charlm.tokenizer import CharTokenizer
from charlm.training.divergence import DivergedError
from charlm.training.presets import Recipe
from charlm.training.trainer import Trainer

PAUSED = "paused"
"""What a process tells when its turn is over and it wants another."""
NICENESS = 10
"""Whoever reads or writes on the page goes first."""
SECONDS_ALONE = 0.1
"""A run whose next turn comes within this time has the machine to itself."""


def learn(recipe: Recipe, data: str | None, model: Path, connection: Connection) -> None:
    """Follows `recipe` on the text file at `data` (None: Tiny Shakespeare), in the turns that come through
    `connection`, and leaves the checkpoint in `model`.

    What it tells: its baselines, the events of its steps, and at last that it has finished, or why it failed
    or diverged.
    It ends early if nobody is at the other end any more.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the app, which ends its runs.
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    try:
        with suppress(EOFError, ConnectionError):  # Nobody is at the other end any more.
            _learn(recipe, data, model, _Turns(connection))
    except (CharlmError, MemoryError, RuntimeError) as error:
        if (sentence := sentence_of(error)) is None:
            raise
        with suppress(ConnectionError):
            connection.send({"failed": sentence})
        sys.exit(1)


class _Turns:
    """The turns of a run, as its process sees them."""

    def __init__(self, connection: Connection):
        self.connection = connection
        self.stopped = False
        """Whether the run is to come to its end."""
        self._wait()

    def tell(self, event: Mapping[str, Any]) -> None:
        self.connection.send(event)

    def go_on(self) -> bool:
        """Whether there is to be another step. Returns in a turn: the next, if one is over."""
        if time.monotonic() >= self._end:
            self.connection.send(PAUSED)
            if not self.connection.poll(SECONDS_ALONE):
                _give_back_memory()
            self._wait()
        elif self.connection.poll():  # During a turn there is nothing to be told but to stop.
            self.connection.recv()
            self.stopped = True
        return not self.stopped

    def _wait(self) -> None:
        while (turn := self.connection.recv()) is None:
            self.stopped = True
        torch.set_num_threads(turn.threads)
        self._end = time.monotonic() + turn.seconds


def _give_back_memory() -> None:
    """Gives the system what is free and only kept for later: others need it meanwhile."""
    gc.collect()
    if sys.platform == "linux":
        with suppress(AttributeError):  # Only glibc has it.
            ctypes.CDLL(None).malloc_trim(0)


def _learn(recipe: Recipe, data: str | None, model: Path, turns: _Turns) -> None:
    corpus = load_corpus(data)
    trainer = Trainer(recipe.model(CharTokenizer.from_text(corpus.text)), corpus, recipe.options)
    turns.tell({"baselines": trainer.baselines()})
    command = ["train", *recipe.arguments(), "--out", model.name]
    if data is not None:
        command += ["--data", Path(data).name]

    def save(folder: Path, **losses: float) -> None:
        record = trainer.record(f"python -m charlm {shlex.join(command)}") | losses
        checkpoints.save(trainer.average, record, folder)

    try:
        for progress in trainer.run():
            if progress.evaluation is not None:
                save(kept.folder_of(model, trainer.step))
                kept.thin_out(model, (step for step, *_ in trainer.curve), MAX_KEPT_BYTES_A_RUN)
            turns.tell(progress.event())  # Whoever hears of an evaluation finds the model that was evaluated.
            if not turns.go_on():
                break
    except DivergedError as error:
        if trainer.step:
            save(model)
        turns.tell({"diverged": str(error)})
        sys.exit(1)
    if trainer.step:
        save(model)
        save(model, **trainer.losses(SECONDS_A_LOSS))
    turns.tell({"finished": True})
