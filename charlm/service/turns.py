"""Who learns now: the runs share the machine in turns, so that nobody waits for another's end."""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from typing import NamedTuple

from charlm.engine.decoding import CORES
from charlm.service import limits
from charlm.service.outlook import seconds_left
from charlm.service.run import Run


class Turn(NamedTuple):
    """For so many `seconds` a run may compute with so many `threads`."""

    seconds: float
    threads: int


class Turns:
    """Gives turns to the runs: to as many at a time as there are processor cores, if there is memory for
    their steps. Whoever has not learned yet comes first; then whoever is to stop or has little left to learn,
    but for one turn in three; the others come in a round. Safe for any number of threads."""

    def __init__(self, places: int = CORES):
        self.places = places
        self._new: deque[Run] = deque()
        self._short: deque[Run] = deque()
        self._round: deque[Run] = deque()
        self._in_a_row = 0
        """How many of the last turns went to those who have little left."""
        self._taking: dict[Run, float] = {}
        """Who has a turn, and since when, by `time.monotonic`."""
        self._lock = threading.Lock()

    def join(self, run: Run) -> None:
        """A run wants its first turn."""
        with self._lock:
            self._new.append(run)
            self._give()

    def next(self, run: Run) -> None:
        """The turn of a run is over, and it wants another."""
        with self._lock:
            self._take_back(run)
            soon = run.stopping or seconds_left(run) < limits.SHORT_SECONDS
            (self._short if soon else self._round).append(run)
            self._give()

    def stop(self, run: Run) -> None:
        """Tells a run to come to its end, for which it soon has a turn."""
        with self._lock:
            if any(run in runs for runs in (self._taking, self._new, self._short, self._round)):
                _tell(run, None)
            if run in self._round:
                self._round.remove(run)
                self._short.append(run)
                self._give()

    def leave(self, run: Run) -> None:
        """A run wants no more turns."""
        with self._lock:
            for queue in (self._new, self._short, self._round):
                if run in queue:
                    queue.remove(run)
            self._take_back(run)
            self._give()

    def has_turn(self, run: Run) -> bool:
        return run in self._taking

    def seconds(self, run: Run) -> float:
        """For how long a run has had its turn, 0 if it has none."""
        began = self._taking.get(run)
        return 0.0 if began is None else time.monotonic() - began

    def _take_back(self, run: Run) -> None:
        began = self._taking.pop(run, None)
        if began is not None:
            run.computed += time.monotonic() - began

    def _give(self) -> None:
        """Gives the turns that there is room for. With the lock, so it must be quick."""
        while (queue := self._queue()) and len(self._taking) < self.places:
            needed = queue[0].step_bytes + sum(run.step_bytes for run in self._taking)
            if self._taking and needed > limits.MAX_STEP_BYTES:
                return
            if queue is not self._new:
                self._in_a_row = self._in_a_row + 1 if queue is self._short else 0
            run = queue.popleft()
            self._taking[run] = time.monotonic()
            sharing = len(self._taking) + len(self._new) + len(self._short) + len(self._round)
            _tell(run, Turn(limits.TURN_SECONDS, max(1, CORES // sharing)))

    def _queue(self) -> deque[Run]:
        """From which the next comes."""
        if self._new:
            return self._new
        return self._short if self._short and (self._in_a_row < 2 or not self._round) else self._round


def _tell(run: Run, message: Turn | None) -> None:
    """Tells the process of a run that it has a turn, or that it is to stop (None)."""
    with suppress(OSError):  # It has ended, and whoever follows it will notice.
        run.connection.send(message)
