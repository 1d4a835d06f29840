"""One training run of a visitor: what was asked for, and what it has told so far."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from charlm.service import estimate, kept, limits
from charlm.training import cost
from charlm.training.measures import Measures
from charlm.training.presets import Recipe
from charlm.training.trainer import ProgressEvent

THIS = "this"
"""As the guess of a run: that it will end lower itself."""
MODEL, TEXT = "model", "text.txt"
"""What lies in a run's folder: its checkpoint, and while it learns the text."""


@dataclass(eq=False)
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
    chars: int = estimate.TINY_SHAKESPEARE_CHARS
    """How long its text is."""
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
    """A `multiprocessing.Process`, from its beginning to its end."""
    connection: Any = None
    """To that process, a `multiprocessing.connection.Connection`."""
    computed: float = 0.0
    """For how many seconds it had the turn so far."""
    stopping: bool = False
    removed: bool = False
    """Whether its visitor wants nothing to be left of it."""
    finished: bool = False
    """Whether its process told that it has come to its end."""
    complaint: str = ""
    """The sentence by which its process told that it fails."""
    diverged: str = ""
    """The sentence by which its process told that it diverges."""

    @cached_property
    def step_bytes(self) -> float:
        """How much memory its steps take."""
        return cost.memory(self.recipe)

    @cached_property
    def held_bytes(self) -> float:
        """How much of it is held between its turns."""
        return cost.held(self.recipe, self.chars)

    @cached_property
    def whole_seconds(self) -> float:
        """About how long it takes from its start to its end, if it has a processor core to itself."""
        options = self.recipe.options
        evaluations = 1 + options.steps // options.eval_interval
        whole = estimate.forecast(self.recipe, options.steps, None, evaluations, self.chars).seconds
        return min(whole, (options.seconds or whole) + self.measuring_seconds)

    @cached_property
    def measuring_seconds(self) -> float:
        """How much of that the last losses take."""
        return estimate.measuring_seconds(self.recipe, self.chars)

    def prepare(self) -> None:
        """Computes what will be asked for in a hurry."""
        _ = self.step_bytes, self.held_bytes, self.whole_seconds

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

    def note(self, event: dict[str, Any]) -> None:
        """Takes note of what its process tells."""
        if "baselines" in event:
            self.baselines = event["baselines"]
        elif "finished" in event:
            self.finished = True
        elif "failed" in event:
            self.complaint = event["failed"]
        elif "diverged" in event:
            self.diverged = event["diverged"]
        elif "step" in event:
            self._note_step(event)

    def _note_step(self, event: dict[str, Any]) -> None:
        self.progress = cast(ProgressEvent, event)
        if "val_loss" in event:
            self.evaluations.append(self.progress)
        if "measures" in event:
            self.measures.append(event["measures"])
        if "batch_loss" in event:
            self._note_batch_loss(event["step"], event["batch_loss"], event["seconds"])

    def _note_batch_loss(self, step: int, loss: float, seconds: float) -> None:
        """Keeps a loss, or leaves it out: so many are kept of a run, at even distances."""
        if step % self.stride:
            return
        self.batch_losses.append((step, loss, seconds))
        if len(self.batch_losses) > limits.MAX_BATCH_LOSSES:
            self.stride *= 2
            self.batch_losses = [kept for kept in self.batch_losses if kept[0] % self.stride == 0]
