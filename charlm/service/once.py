"""What is computed once for all who ask for it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Once(Generic[T]):
    """Values by name, of which the latest are kept. For any number of threads at once: whoever asks while a
    value is computed waits for it. One that could not be computed is tried again."""

    def __init__(self) -> None:
        self._values: OrderedDict[str, Future[T]] = OrderedDict()
        self._lock = threading.Lock()
        """For the dictionary alone: nothing slow is done with it."""

    def get(self, name: str, compute: Callable[[], T], most: int) -> T:
        """What `compute` gives for `name`, of at most so many names. Raises what `compute` raises."""
        with self._lock:
            known = self._values.get(name)
            value = known or Future()
            self._values[name] = value
            self._values.move_to_end(name)
            while len(self._values) > most:
                self._values.popitem(last=False)
        if known is None:
            try:
                value.set_result(compute())
            except BaseException as error:
                with self._lock:
                    self._values.pop(name, None)
                value.set_exception(error)
        return value.result()
