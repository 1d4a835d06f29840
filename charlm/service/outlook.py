"""When the runs that share the machine begin and end, as far as can be told."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from charlm.engine.decoding import CORES
from charlm.service.run import Run


class Outlook(NamedTuple):
    """In how many seconds, about, a run `begins` to learn (0 if it has) and `ends`, its last losses measured;
    and how many `others` learn beside it now."""

    begins: float
    ends: float
    others: int


def foresee(run: Run, running: Sequence[Run], waiting: Sequence[Run]) -> Outlook:
    """The outlook of `run`, one of those that are `running` or, in the order of the line, `waiting`."""
    runs = [*running, *waiting]
    if run not in runs:
        return Outlook(0.0, 0.0, len(running))
    spans = share([seconds_left(run) for run in runs], len(running))
    return Outlook(*spans[runs.index(run)], len(running) - (run in running))


def seconds_left(run: Run) -> float:
    """How many seconds a run would still take if it had a processor core to itself."""
    done, seconds = run.progress["done"], run.progress["seconds"]
    if run.stopping or done >= 1:
        return run.measuring_seconds
    if done > 0.01:
        return seconds * (1 - done) / done + run.measuring_seconds
    return run.whole_seconds


def share(left: Sequence[float], running: int) -> list[tuple[float, float]]:
    """When each of some runs begins and ends, in seconds, if the first `running` of them share the cores of
    this machine evenly and one of the others, in order, begins whenever one ends. `left` is what each takes
    alone."""
    line = deque(range(len(left)))
    sharing: dict[int, float] = {}
    begun: dict[int, float] = {}
    ended: dict[int, float] = {}
    now = 0.0
    while line or sharing:
        while line and len(sharing) < max(1, running):
            i = line.popleft()
            sharing[i], begun[i] = left[i], now
        first = min(sharing, key=lambda i: sharing[i])
        passed, crowd = sharing[first], max(1.0, len(sharing) / CORES)
        now += passed * crowd
        sharing = {i: seconds - passed for i, seconds in sharing.items() if i != first}
        ended[first] = now
    return [(begun[i], ended[i]) for i in range(len(left))]
