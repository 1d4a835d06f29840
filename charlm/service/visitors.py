"""Who is here, when somebody is gone, and the folder in which everybody's things lie."""

from __future__ import annotations

import atexit
import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from charlm.errors import CharlmError
from charlm.service import limits

SWEEP_INTERVAL_SECONDS = 60

log = logging.getLogger(__name__)


class Visitors:
    """Remembers each visitor's last sign of life. Whoever keeps things of theirs is called now and then
    (`on_sweep`), asks who `is_gone`, and removes what was theirs. Safe for any number of threads."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="charlm-"))
        self._seen: dict[str, float] = {}
        self._lock = threading.Lock()
        self._sweepers: list[Callable[[], object]] = []
        self._closed = threading.Event()
        atexit.register(self.close)
        threading.Thread(target=self._sweep_for_ever, daemon=True, name="charlm-sweeper").start()

    def new_folder(self) -> Path:
        """A new folder that is removed when the app ends. Raises `CharlmError` if there is no room for it."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # the system may have swept it away
            return Path(tempfile.mkdtemp(dir=self.folder))
        except OSError as error:
            raise CharlmError(f"The server cannot keep anything: {error.strerror}.") from error

    def touch(self, visitor: str) -> None:
        """Takes note that `visitor` is here."""
        with self._lock:
            self._seen[visitor] = time.monotonic()

    def is_gone(self, visitor: str) -> bool:
        """Whether `visitor` has given no sign of life for `limits.FORGET_AFTER_SECONDS`."""
        with self._lock:
            return self._is_gone(visitor)

    def on_sweep(self, sweeper: Callable[[], object]) -> None:
        """`sweeper()` is called now and then, to remove what belongs to those who are gone."""
        self._sweepers.append(sweeper)

    def sweep(self) -> None:
        """Has everything removed that belongs to those who are gone, and forgets them. What fails is
        logged, and the rest is done."""
        for sweeper in self._sweepers:
            try:
                sweeper()
            except Exception:
                log.exception("What visitors left could not be removed; it is tried again later")
        with self._lock:
            self._seen = {visitor: at for visitor, at in self._seen.items() if not self._is_gone(visitor)}

    def close(self) -> None:
        """Removes the folder with all that is in it."""
        self._closed.set()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _is_gone(self, visitor: str) -> bool:
        return time.monotonic() - self._seen.get(visitor, float("-inf")) > limits.FORGET_AFTER_SECONDS

    def _sweep_for_ever(self) -> None:
        while not self._closed.wait(SWEEP_INTERVAL_SECONDS):
            self.sweep()
