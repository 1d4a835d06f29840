"""What a change costs a model, and what its heads are worth: computed once, on the excerpt that travels with
it."""

from __future__ import annotations

import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from charlm.errors import CharlmError
from charlm.models import LanguageModel
from charlm.service import limits
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


class Losses:
    """Computes the loss of a model on its excerpt when it is first asked for, and keeps the latest
    `limits.MAX_LOSSES` of them. For any number of threads at once."""

    def __init__(self) -> None:
        self._losses: OrderedDict[str, Future[float]] = OrderedDict()
        self._lock = threading.Lock()
        """For the dictionary alone: nothing slow is done with it."""

    def get(self, name: str, model: LanguageModel, excerpt: Excerpt) -> float:
        """The mean loss in nats per character of `model`, which is called `name`."""
        with self._lock:
            known = self._losses.get(name)
            loss = known or Future()
            self._losses[name] = loss
            self._losses.move_to_end(name)
            while len(self._losses) > limits.MAX_LOSSES:
                self._losses.popitem(last=False)
        if known is None:
            try:
                loss.set_result(excerpt.loss(model))
            except BaseException as error:
                with self._lock:
                    self._losses.pop(name, None)
                loss.set_exception(error)
        return loss.result()


class _Measuring:
    """One model's heads, while they are measured and afterwards."""

    def __init__(self, client: str) -> None:
        self.client = client
        self.done = 0.0
        self.forgotten = False
        self.result: Future[Heads] = Future()


class MeasuredHeads:
    """Measures heads in the background, behind everything else, one model after the other. Keeps what it
    found until it is told to `forget` the model. For any number of threads at once."""

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(1, "charlm-heads", _behind_others)
        self._of: dict[str, _Measuring] = {}
        self._lock = threading.Lock()
        """For the dictionary alone: nothing slow is done with it."""

    def begin(
        self, name: str, client: str, read: Callable[[], tuple[LanguageModel, Excerpt]]
    ) -> Future[Heads]:
        """Has the heads of the model called `name` measured, if they were not: `read` gives it, and its text.

        Raises `CharlmError` while another of the same `client` is measured.
        """
        with self._lock:
            if name in self._of:
                return self._of[name].result
            if any(other.client == client and not other.result.done() for other in self._of.values()):
                raise CharlmError(ONE_AT_A_TIME)
            mine = self._of[name] = _Measuring(client)
        self._worker.submit(self._measure, name, mine, read)
        return mine.result

    def find(self, name: str) -> Heads | None:
        """What was found of the model called `name`."""
        with self._lock:
            mine = self._of.get(name)
        return mine.result.result() if mine and mine.result.done() else None

    def progress(self, name: str) -> float | None:
        """How much is done, from 0 to 1; None if nothing was begun."""
        with self._lock:
            mine = self._of.get(name)
        return mine.done if mine else None

    def forget(self, name: str) -> None:
        """Ends what is being measured of the model called `name`, and drops what was found."""
        with self._lock:
            mine = self._of.pop(name, None)
        if mine:
            mine.forgotten = True

    def close(self) -> None:
        """Ends what is being measured."""
        for name in list(self._of):
            self.forget(name)
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _measure(
        self, name: str, mine: _Measuring, read: Callable[[], tuple[LanguageModel, Excerpt]]
    ) -> None:
        def progress(done: float) -> None:
            if mine.forgotten:
                raise CharlmError(GONE)
            mine.done = done

        try:
            progress(0.0)
            model, excerpt = read()
            mine.result.set_result(measure(model, excerpt, "", progress))
        except BaseException as error:
            with self._lock:
                if self._of.get(name) is mine:
                    del self._of[name]
            mine.result.set_exception(error)


def _behind_others(*_: Any) -> None:
    """Whoever reads or writes on the page goes first."""
    if sys.platform == "linux":  # where a thread has a priority of its own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
