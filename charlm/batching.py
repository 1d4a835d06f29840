"""Continuous batching: texts that are written at the same time share every step of the model.

A new text joins between two steps and a finished or abandoned one leaves, so that nobody waits for
anybody else to finish (Yu et al., 2022, "Orca").
"""

from __future__ import annotations

import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from charlm.errors import CharlmError
from charlm.models import LanguageModel
from charlm.models.decoding import Decoder
from charlm.sampling import Sampler, SamplingOptions, Step, steps_of

T = TypeVar("T")
MAX_STREAMS = 32
"""How many texts are written at once."""
MAX_WAITING = 100
"""How many more may wait for a place."""
IDLE_SECONDS = 30
"""How long the worker waits for work before it gives its memory back."""


class Stream:
    """A text that is being written: iterate over it, or `take` what there is; `close` it when done."""

    def __init__(self, batcher: Batcher, model: LanguageModel, ids: list[int], options: SamplingOptions):
        self.model, self.ids, self.options = model, ids, options
        self.generator = np.random.default_rng(options.seed)
        self.left = options.max_new_chars
        self.closed = False
        """Whether nothing will be added any more: it is finished, abandoned or has failed."""
        self._batcher = batcher
        self._steps: list[Step] = []
        self._error: CharlmError | None = None
        self._news = threading.Condition()

    def take(self, timeout: float = 0.0) -> list[Step]:
        """What was written since the last call; waits up to `timeout` seconds if that is nothing.

        Raises `CharlmError` if writing failed.
        """
        with self._news:
            if timeout > 0:
                self._news.wait_for(lambda: self._steps or self.closed, timeout)
            steps, self._steps = self._steps, []
            if not steps and self._error is not None:
                raise self._error
            return steps

    def __iter__(self) -> Iterator[Step]:
        try:
            while not self.closed or self._steps:
                yield from self.take(timeout=60)
            self.take()
        finally:
            self.close()

    def close(self) -> None:
        """Stops the writing and frees the place at once."""
        with self._news:
            self.closed = True
            self._news.notify_all()
        self._batcher.forget(self)

    @property
    def place(self) -> int:
        """The place in the line of those who wait, 1 for the next; 0 once it is being written."""
        return self._batcher.place(self)

    def add(self, step: Step) -> None:
        with self._news:
            self._steps.append(step)
            self.left -= 1
            if self.left == 0:
                self.closed = True
            self._news.notify_all()

    def fail(self, error: CharlmError) -> None:
        with self._news:
            self._error, self.closed = error, True
            self._news.notify_all()


class Batcher:
    """The one thread that computes: writes any number of texts, with any number of models.

    PyTorch keeps a pool of threads for each thread that calls it, and two pools on the same cores
    slow each other down several times: so whatever else is to be computed is `call`ed here too.
    """

    def __init__(self) -> None:
        self._groups: dict[LanguageModel, _Group] = {}
        self._calls: deque[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]] = deque()
        self._waiting: deque[Stream] = deque()
        self._changed = threading.Condition()
        self._worker: threading.Thread | None = None

    def submit(self, model: LanguageModel, ids: list[int], options: SamplingOptions) -> Stream:
        """Begins to write on from the characters `ids` as soon as there is a place.

        Raises `CharlmError` if too many wait already.
        """
        stream = Stream(self, model, ids, options)
        with self._changed:
            if len(self._waiting) >= MAX_WAITING:
                raise CharlmError(
                    f"Busy: {len(self._waiting)} texts are in line already. Please try again in a moment."
                )
            self._waiting.append(stream)
            self._wake()
        return stream

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """`function(*args)`, computed between two steps of whatever is being written."""
        if threading.current_thread() is self._worker:
            return function(*args)
        future: Future[T] = Future()
        with self._changed:
            self._calls.append((future, function, args))
            self._wake()
        return future.result()

    def place(self, stream: Stream) -> int:
        """The place of `stream` in the line, 1 for the next; 0 if it does not wait."""
        with self._changed:
            return self._waiting.index(stream) + 1 if stream in self._waiting else 0

    def forget(self, stream: Stream) -> None:
        """Takes `stream` out of the line, if it waits there."""
        with self._changed:
            if stream in self._waiting:
                self._waiting.remove(stream)

    def _wake(self) -> None:
        if self._worker is None:
            self._worker = threading.Thread(target=self._work, daemon=True, name="charlm-batcher")
            self._worker.start()
        self._changed.notify_all()

    def _work(self) -> None:
        try:
            while self._groups or self._has_work():
                self._answer_a_call()
                self._let_one_join()
                for model, group in list(self._groups.items()):
                    try:
                        group.step()
                    except Exception:
                        traceback.print_exc()
                        group.fail()
                    if not group.active:
                        del self._groups[model]
        except BaseException:
            # Whatever ends this thread, who was being served is told, and who waits gets another.
            traceback.print_exc()
            with self._changed:
                groups, self._groups, self._worker = self._groups, {}, None
                if self._waiting or self._calls:
                    self._wake()
            for group in groups.values():
                group.fail()

    def _has_work(self) -> bool:
        """Waits for something to do; after `IDLE_SECONDS` without, the worker may go."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._waiting or self._calls, IDLE_SECONDS):
                self._worker = None
                return False
            return True

    def _answer_a_call(self) -> None:
        with self._changed:
            call = self._calls.popleft() if self._calls else None
        if call is not None:
            future, function, args = call
            try:
                future.set_result(function(*args))
            except BaseException as error:
                future.set_exception(error)

    def _let_one_join(self) -> None:
        """Between two steps one joins at most, so that those who write already are not held up by
        many prompts."""
        with self._changed:
            full = sum(len(group.active) for group in self._groups.values()) >= MAX_STREAMS
            if full or not self._waiting:
                return
            stream = self._waiting[0]
            if not stream.closed:
                self._groups.setdefault(stream.model, _Group(stream.model)).joining = stream
            self._waiting.popleft()


class _Group:
    """The texts that are written with one model; `active[i]` has slot i of its decoder."""

    def __init__(self, model: LanguageModel):
        self.model = model
        self.active: list[Stream] = []
        self.joining: Stream | None = None
        self.slots = 1
        self.drawn: np.ndarray = np.empty(0, np.int64)
        self.sampler: Sampler | None = None

    @cached_property
    def decoder(self) -> Decoder:
        return self.model.decoder(self.slots)

    def step(self) -> None:
        """Writes the next character of every text; whoever joins gets his first."""
        if self.joining is not None:
            self._join(self.joining)
        self._drop_the_closed()
        if not self.active:
            return
        if self.sampler is None:
            self.sampler = Sampler([s.options for s in self.active], [s.generator for s in self.active])
        self.drawn, probs = self.sampler.draw(self.decoder.step(self.drawn))
        steps = steps_of(self.model.tokenizer, self.drawn, probs)
        for stream, step in zip(self.active, steps, strict=True):
            if not stream.closed:
                stream.add(step)

    def fail(self) -> None:
        """Ends all texts with an error."""
        for stream in (*self.active, *filter(None, [self.joining])):
            stream.fail(CharlmError("Writing failed on the server: please press Generate again."))
        self.active = []

    def _join(self, stream: Stream) -> None:
        slot = len(self.active)
        if slot == self.slots:
            self.slots *= 2
            self.decoder.resize(self.slots)
        logits = self.decoder.read(slot, np.array(stream.ids))
        first, probs = Sampler([stream.options], [stream.generator]).draw(logits[None])
        stream.add(steps_of(self.model.tokenizer, first, probs)[0])
        self.active.append(stream)
        self.joining = None
        self.drawn = np.concatenate((self.drawn, first))
        self.sampler = None

    def _drop_the_closed(self) -> None:
        for i in reversed(range(len(self.active))):
            if self.active[i].closed:
                # The last one takes the free place.
                last = self.active.pop()
                if i < len(self.active):
                    self.active[i] = last
                    self.drawn[i] = self.drawn[-1]
                    self.decoder.move(len(self.active), i)
                self.drawn = self.drawn[:-1]
                self.sampler = None
