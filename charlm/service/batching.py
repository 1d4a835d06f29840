"""Continuous batching: texts that are written at the same time share every step of the model.

A new text joins between two steps and a finished or abandoned one leaves, so that nobody waits for
anybody else to finish (Yu et al., 2022, "Orca"). Where more want to write than there are places, these are
shared among the clients, and among the texts of one client in turns.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from charlm.engine.compiling import Kernel
from charlm.engine.decoding import has_kernel, runner_for
from charlm.engine.plain import PlainRunner
from charlm.engine.runner import Runner
from charlm.engine.sampling import Sampler, SamplingOptions, Step
from charlm.errors import CharlmError
from charlm.models import LanguageModel
from charlm.service import limits

IDLE_SECONDS = 30
"""How long the weights of a model with which nobody writes stay packed."""
TURN_CHARS = 200
"""How much more one text has than another of the same client when it makes way for it."""
SECONDS_TO_FIRST_LOOK = 0.005
SECONDS_TO_END = 5
"""How long a step that is being computed may take when all writing ends."""

BUSY = "Busy: too many texts are in line already. Please try again in a moment."

log = logging.getLogger(__name__)


class Stream:
    """A text that is being written: iterate over it, or `take` what there is; `close` it when done."""

    def __init__(
        self, batcher: Batcher, model: LanguageModel, ids: list[int], options: SamplingOptions, client: str
    ):
        self.model, self.ids, self.options, self.client = model, ids, options, client
        self.generator = np.random.default_rng(options.seed)
        self.left = options.max_new_chars
        self.paused: tuple[Any, np.ndarray] | None = None
        """What its runner saved, and the character that it reads next, while it has no place."""
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
    def written(self) -> int:
        """How many characters it has so far."""
        return self.options.max_new_chars - self.left

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


@dataclass(frozen=True)
class News:
    """What has happened to a text since the last look: the characters written, its place in the line (0
    once it is being written), and whether that was all."""

    steps: list[Step]
    place: int
    done: bool


async def follow(streams: Sequence[Stream], seconds_between_looks: float) -> AsyncIterator[list[News]]:
    """The news of all `streams`, whenever there is any: first characters at once, then a few at a time.

    Raises `CharlmError` if writing fails.
    """
    latest = [News([], 0, False) for _ in streams]
    begun = [False for _ in streams]
    while not all(news.done for news in latest):
        before, latest = latest, [_news(stream) for stream in streams]
        begun = [was or bool(news.steps or news.place) for was, news in zip(begun, latest, strict=True)]
        if any(
            news.steps or (news.place, news.done) != (last.place, last.done)
            for news, last in zip(latest, before, strict=True)
        ):
            yield latest
        await asyncio.sleep(seconds_between_looks if all(begun) else SECONDS_TO_FIRST_LOOK)


def _news(stream: Stream) -> News:
    # In this order: a text that is closed now may have been written on since the last look.
    closed, place = stream.closed, stream.place
    steps = stream.take()
    return News(steps, place, closed and not steps)


class Batcher:
    """One thread that writes any number of texts, with any number of models.

    It has its runners do without the `kernel` until that is ready, and waits for it where none is given.
    """

    def __init__(self, kernel: Kernel | None = None) -> None:
        self._kernel = kernel
        self._groups: dict[LanguageModel, _Group] = {}
        self._waiting: list[Stream] = []
        """Who wants a place, the next first."""
        self._changed = threading.Condition()
        self._worker: threading.Thread | None = None
        self._closed = False

    def submit(
        self, model: LanguageModel, ids: list[int], options: SamplingOptions, client: str = ""
    ) -> Stream:
        """Begins to write on from the characters `ids` as soon as there is a place for `client`.

        Raises `CharlmError` if too many wait already.
        """
        stream = Stream(self, model, ids, options, client)
        dropped = None
        with self._changed:
            if len(self._waiting) >= limits.MAX_WAITING_STREAMS:
                dropped = self._to_drop_for(client)
                self._waiting.remove(dropped)
            self._waiting.append(stream)
            self._wake()
        if dropped is not None:
            dropped.fail(CharlmError(BUSY))
        return stream

    def _to_drop_for(self, client: str) -> Stream:
        """Who leaves the full line for somebody of `client`: the latest of whoever has most in it, and one
        that has begun only if all have. Raises `CharlmError` if that is `client`."""
        waiting = Counter(stream.client for stream in self._waiting)
        greediest, most = waiting.most_common(1)[0]
        if waiting[client] + 1 >= most:
            raise CharlmError(BUSY)
        theirs = [stream for stream in reversed(self._waiting) if stream.client == greediest]
        return next((stream for stream in theirs if stream.paused is None), theirs[0])

    def place(self, stream: Stream) -> int:
        """The place of `stream` in the line, 1 for the next; 0 if it does not wait to begin."""
        with self._changed:
            return self._waiting.index(stream) + 1 if not stream.written and stream in self._waiting else 0

    def forget(self, stream: Stream) -> None:
        """Takes `stream` out of the line, if it waits there."""
        with self._changed:
            if stream in self._waiting:
                self._waiting.remove(stream)

    def close(self) -> None:
        """Ends all writing. A thread that computes while the interpreter ends would end it badly."""
        with self._changed:
            self._closed, worker = True, self._worker
            self._changed.notify_all()
        if worker is not None:
            worker.join(SECONDS_TO_END)

    def _wake(self) -> None:
        if self._worker is None:
            self._worker = threading.Thread(target=self._work, daemon=True, name="charlm-batcher")
            self._worker.start()
        self._changed.notify_all()

    def _work(self) -> None:
        try:
            while any(group.busy for group in self._groups.values()) or self._has_work():
                if self._closed:
                    return
                self._let_one_join()
                for model, group in list(self._groups.items()):
                    if group.busy:
                        self._step(group)
                    elif time.monotonic() > group.last_used + IDLE_SECONDS:
                        del self._groups[model]
        except BaseException:
            # Whatever ends this thread, who was being served is told, and who waits gets another.
            log.exception("The thread that writes has ended")
            with self._changed:
                groups, self._groups, self._worker = self._groups, {}, None
                if self._waiting:
                    self._wake()
            for group in groups.values():
                group.fail()

    def _step(self, group: _Group) -> None:
        try:
            group.step()
        except Exception:
            log.exception("Texts could not be written on")
            group.fail()
            del self._groups[group.model]

    def _has_work(self) -> bool:
        """Waits for somebody who wants a text; after `IDLE_SECONDS` without, the worker may go."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._waiting or self._closed, IDLE_SECONDS):
                self._worker = None
                self._groups = {}
                return False
            return True

    def _let_one_join(self) -> None:
        """Between two steps one joins at most, so that those who write already are not held up by
        many prompts."""
        active = [stream for group in self._groups.values() for stream in group.active]
        with self._changed:
            self._waiting = [stream for stream in self._waiting if not stream.closed]
            if not self._waiting:
                return
            places = Counter(stream.client for stream in active)
            self._waiting.sort(key=lambda stream: (places[stream.client], stream.written))
            stream = self._waiting[0]
            full = len(active) >= limits.MAX_STREAMS
            leaving = _who_makes_way(active, places, stream) if full else None
            if full and leaving is None:
                return
            self._waiting.pop(0)
        if leaving is not None:
            self._groups[leaving.model].pause(leaving)
            with self._changed:
                self._waiting.append(leaving)
        if stream.model not in self._groups:
            self._groups[stream.model] = _Group(stream.model, self._kernel)
        self._groups[stream.model].joining = stream


def _who_makes_way(active: list[Stream], places: Counter[str], stream: Stream) -> Stream | None:
    """Whose text is paused for `stream`: the longest of the client with most places, if that client has more
    than its share or the text has had its turn."""
    longest = max(active, key=lambda other: (places[other.client], other.written))
    more_places = places[longest.client] - places[stream.client]
    had_its_turn = longest.written >= stream.written + TURN_CHARS
    return longest if more_places > 1 or (more_places >= 0 and had_its_turn) else None


class _Group:
    """The texts that are written with one model; `active[i]` has slot i of its runner."""

    def __init__(self, model: LanguageModel, kernel: Kernel | None):
        self.model, self._kernel = model, kernel
        self.active: list[Stream] = []
        self.joining: Stream | None = None
        self.last_used = 0.0
        self.drawn: np.ndarray = np.empty(0, np.int64)
        self.sampler: Sampler | None = None
        self._slots = 1
        self._runner: Runner | None = None

    @property
    def busy(self) -> bool:
        """Whether somebody writes, or is about to."""
        return bool(self.active) or self.joining is not None

    @property
    def runner(self) -> Runner:
        """Made when first wanted, and kept while nobody writes: packing the weights takes its time. Once the
        kernel is ready, the texts go on with it."""
        plain = self._kernel is not None and not self._kernel.ready
        if self._runner is None:
            self._runner = runner_for(self.model, self._slots, plain)
        elif isinstance(self._runner, PlainRunner) and not plain and has_kernel(self.model):
            before, self._runner = self._runner, runner_for(self.model, self._slots)
            for slot in range(len(self.active)):
                self._runner.restore(slot, before.save(slot))
        return self._runner

    def step(self) -> None:
        """Writes the next character of every text; whoever joins gets the first."""
        if self.joining is not None:
            self._join(self.joining)
        self._drop_the_closed()
        if not self.active:
            self._rest()
            return
        if self.sampler is None:
            self.sampler = Sampler([s.options for s in self.active], [s.generator for s in self.active])
        self.drawn, steps = self.sampler.draw(self.model.tokenizer, self.runner.step(self.drawn))
        for stream, step in zip(self.active, steps, strict=True):
            if not stream.closed:
                stream.add(step)

    def pause(self, stream: Stream) -> None:
        """Takes a text out, for `joining` to go on with it later."""
        slot = self.active.index(stream)
        stream.paused = self.runner.save(slot), self.drawn[slot : slot + 1].copy()
        self._take_out(slot)

    def fail(self) -> None:
        """Ends all texts with an error."""
        for stream in (*self.active, *filter(None, [self.joining])):
            stream.fail(CharlmError("Writing failed on the server: please press Generate again."))
        self.active = []

    def _join(self, stream: Stream) -> None:
        slot = len(self.active)
        if slot == self._slots:
            self._slots *= 2
            self.runner.resize(self._slots)
        if stream.paused is not None:
            saved, first = stream.paused
            stream.paused = None
            self.runner.restore(slot, saved)
        else:
            logits = self.runner.prefill(slot, np.array(stream.ids))
            sampler = Sampler([stream.options], [stream.generator])
            first, steps = sampler.draw(self.model.tokenizer, logits[None])
            stream.add(steps[0])
        self.active.append(stream)
        self.joining = None
        self.drawn = np.concatenate((self.drawn, first))
        self.sampler = None

    def _drop_the_closed(self) -> None:
        for i in reversed(range(len(self.active))):
            if self.active[i].closed:
                self._take_out(i)

    def _take_out(self, slot: int) -> None:
        """Frees a slot; the last text takes it."""
        last = self.active.pop()
        if slot < len(self.active):
            self.active[slot] = last
            self.drawn[slot] = self.drawn[-1]
            self.runner.move(len(self.active), slot)
        self.drawn = self.drawn[:-1]
        self.sampler = None

    def _rest(self) -> None:
        """Nobody writes any more: the room for many texts is given back, the packed weights stay."""
        self.last_used = time.monotonic()
        if self._slots > 1:
            self._slots = 1
            self.runner.resize(self._slots)
