"""Continuous batching: texts that are written at the same time share every step of the model.

A new text joins between two steps and a finished or abandoned one leaves, so that nobody waits for
anybody else to finish (Yu et al., 2022, "Orca").
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator

import torch

from charlm.errors import CharlmError
from charlm.models import LanguageModel
from charlm.sampling import Sampler, SamplingOptions, Step, new_generator, steps_of

MAX_STREAMS = 32
"""How many texts are written at once."""
MAX_WAITING = 100
"""How many more may wait for a place."""
IDLE_SECONDS = 30
"""How long the worker waits for work before it gives its memory back."""


class Stream:
    """A text that is being written: iterate over it, or `take` what there is; `close` it when done."""

    def __init__(self, batcher: Batcher, ids: list[int], options: SamplingOptions):
        self.ids, self.options = ids, options
        self.generator = new_generator(options.seed)
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
    """Writes any number of texts with one model, from any number of threads."""

    def __init__(self, model: LanguageModel):
        self.model = model
        self._waiting: deque[Stream] = deque()
        self._changed = threading.Condition()
        self._worker: threading.Thread | None = None

    def submit(self, ids: list[int], options: SamplingOptions) -> Stream:
        """Begins to write on from the characters `ids` as soon as there is a place.

        Raises `CharlmError` if too many wait already.
        """
        stream = Stream(self, ids, options)
        with self._changed:
            if len(self._waiting) >= MAX_WAITING:
                raise CharlmError(
                    f"Busy: {len(self._waiting)} texts are in line already. Please try again in a moment."
                )
            self._waiting.append(stream)
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, daemon=True, name="charlm-batcher")
                self._worker.start()
            self._changed.notify_all()
        return stream

    def place(self, stream: Stream) -> int:
        """The place of `stream` in the line, 1 for the next; 0 if it does not wait."""
        with self._changed:
            return self._waiting.index(stream) + 1 if stream in self._waiting else 0

    def forget(self, stream: Stream) -> None:
        """Takes `stream` out of the line, if it waits there."""
        with self._changed:
            if stream in self._waiting:
                self._waiting.remove(stream)

    def _work(self) -> None:
        active: list[Stream] = []
        try:
            with torch.inference_mode():
                self._write(active)
        except Exception as error:
            failure = CharlmError("Writing failed on the server: please press Generate again.")
            failure.__cause__ = error
            with self._changed:
                self._worker = None
                abandoned = [*active, *self._waiting]
                self._waiting.clear()
            for stream in abandoned:
                stream.fail(failure)
            raise

    def _write(self, active: list[Stream]) -> None:
        """Serves until there has been nothing to do for a while; `active[i]` has slot i."""
        decoder = self.model.decoder(slots := 1)
        drawn = torch.empty(0, dtype=torch.long)
        sampler = None
        while active or self._has_work():
            joining = self._next_to_join() if len(active) < MAX_STREAMS else None
            if joining is not None:
                if len(active) == slots:
                    decoder.resize(slots := 2 * slots)
                logits = decoder.read(len(active), torch.tensor(joining.ids))
                first, probs = Sampler([joining.options], [joining.generator]).draw(logits[None])
                joining.add(steps_of(self.model.tokenizer, first, probs)[0])
                active.append(joining)
                drawn = torch.cat((drawn, first))
                sampler = None
            for i in reversed(range(len(active))):
                if active[i].closed:
                    # The last one takes the free place.
                    last = active.pop()
                    if i < len(active):
                        active[i] = last
                        drawn[i] = drawn[-1]
                        decoder.move(len(active), i)
                    drawn = drawn[:-1]
                    sampler = None
            if not active:
                continue
            if sampler is None:
                sampler = Sampler([s.options for s in active], [s.generator for s in active])
            drawn, probs = sampler.draw(decoder.step(drawn))
            for stream, step in zip(active, steps_of(self.model.tokenizer, drawn, probs), strict=True):
                if not stream.closed:
                    stream.add(step)

    def _has_work(self) -> bool:
        """Waits for somebody in line; after `IDLE_SECONDS` without, the worker may go."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._waiting, IDLE_SECONDS):
                self._worker = None
                return False
            return True

    def _next_to_join(self) -> Stream | None:
        """The next in line. Between two steps one joins at most, so that those who write already
        are not held up by many prompts."""
        with self._changed:
            return self._waiting.popleft() if self._waiting else None
