"""What a change costs a model, and what its heads are worth: computed once, on the excerpt that travels with
it."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from queue import SimpleQueue

from charlm.errors import CharlmError
from charlm.models import LanguageModel
from charlm.surgery.heads import Heads, load_heads, measure
from charlm.training.excerpt import EXCERPT, Excerpt

GONE = "This model is not here any more, so its heads are not measured to the end."
ONE_AT_A_TIME = "The heads of another model of yours are being measured: please try again when they are."
NO_EXCERPT = (
    "There is no text to measure this model by: it came without one, and its vocabulary lacks characters of "
    "the one that comes with charlm."
)


def excerpt_of(model: LanguageModel, names: Iterable[str]) -> Excerpt:
    """The text to measure `model` by: the one in its record, else the first that it can read of those beside
    the checkpoints called `names`, which come with charlm.

    Raises `CharlmError` if there is none.
    """
    beside = (heads.excerpt for name in names if (heads := load_heads(name)))
    for excerpt in (Excerpt.from_json(model.record.get(EXCERPT)), *beside):
        if excerpt is not None and not model.tokenizer.unknown("".join(excerpt.blocks)):
            return excerpt.fitted(model)
    raise CharlmError(NO_EXCERPT)


class _Measuring:
    """One model's heads, while they are measured and afterwards."""

    def __init__(self, client: str, read: Callable[[], tuple[LanguageModel, Excerpt]]) -> None:
        self.client, self.read = client, read
        self.done = 0.0
        self.forgotten = False
        self.result: Future[Heads] = Future()
        self.result.set_running_or_notify_cancel()  # Who waits for it and leaves does not end it.

    def measure(self) -> Heads:
        """Raises `CharlmError` if that is impossible, or the model was forgotten."""
        self._progress(0.0)
        model, excerpt = self.read()
        return measure(model, excerpt, "", self._progress)

    def _progress(self, done: float) -> None:
        if self.forgotten:
            raise CharlmError(GONE)
        self.done = done


class MeasuredHeads:
    """Measures heads in the background, behind everything else, one model after the other. Keeps what it
    found until it is told to `forget` the model. For any number of threads at once."""

    def __init__(self) -> None:
        self._of: dict[str, _Measuring] = {}
        self._waiting: SimpleQueue[tuple[str, _Measuring]] = SimpleQueue()
        self._worker: threading.Thread | None = None
        self._lock = threading.Lock()
        """For the dictionary and the worker's start alone: nothing slow is done with it."""

    def begin(
        self, name: str, client: str, read: Callable[[], tuple[LanguageModel, Excerpt]]
    ) -> Future[Heads]:
        """Has the heads of the model called `name` measured, unless they are: `read` gives it, and its text.

        Raises `CharlmError` while another of the same `client` is measured.
        """
        with self._lock:
            if name in self._of:
                return self._of[name].result
            if any(other.client == client and not other.result.done() for other in self._of.values()):
                raise CharlmError(ONE_AT_A_TIME)
            mine = self._of[name] = _Measuring(client, read)
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, daemon=True, name="charlm-heads")
                self._worker.start()
        self._waiting.put((name, mine))
        return mine.result

    def find(self, name: str) -> Heads | None:
        """What was found of the model called `name`."""
        with self._lock:
            mine = self._of.get(name)
        done = mine is not None and mine.result.done() and mine.result.exception() is None
        return mine.result.result() if mine and done else None

    def progress(self, name: str) -> float | None:
        """How much is done, from 0 to 1; None if nothing was begun, or it failed."""
        with self._lock:
            mine = self._of.get(name)
        return mine.done if mine else None

    def forget(self, name: str) -> None:
        """Ends what is being measured of the model called `name`, and drops what was found."""
        with self._lock:
            mine = self._of.pop(name, None)
        if mine:
            mine.forgotten = True

    def _work(self) -> None:
        _step_back()
        while True:
            name, mine = self._waiting.get()
            try:
                mine.result.set_result(mine.measure())
            except BaseException as error:
                with self._lock:
                    if self._of.get(name) is mine:
                        del self._of[name]
                mine.result.set_exception(error)


def _step_back() -> None:
    """Lets everybody else's threads go first."""
    if sys.platform == "linux":  # where a thread has a priority of its own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
