"""Who is here, when somebody is gone, and the folder in which everybody's things lie.

A visitor is known by an id that was made here, and that nobody else can make: it ends with its own signature,
so that nothing has to be remembered of whoever only looks. Whoever comes with something else is nobody.
"""

from __future__ import annotations

import atexit
import base64
import hmac
import logging
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from charlm.errors import CharlmError
from charlm.service import limits

SWEEP_INTERVAL_SECONDS = 60
PREFIX, LOCK = "charlm-", "in-use.lock"
"""How the folder for everybody's things is called, and what is locked in it as long as its app lives."""
ID_BYTES = 24
ID_CHARS = 64
"""Of an id: `ID_BYTES` of chance and as many of signature, in base 64."""
NOT_YET = "This page is still being opened: please try again in a moment."
NOBODY = "The server was started anew and does not know this page any more: please reload it."

log = logging.getLogger(__name__)


class Visitors:
    """Remembers each visitor's last sign of life. Whoever keeps things of theirs is called now and then
    (`on_sweep`), asks who `is_gone`, and removes what was theirs. Safe for any number of threads."""

    def __init__(self) -> None:
        _remove_left_folders()
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._mine = FileLock(self.folder / LOCK)
        self._mine.acquire()
        self._key = secrets.token_bytes(32)
        self._seen: dict[str, tuple[float, str]] = {}
        """When each visitor gave the last sign of life, and of which client it is; the latest last."""
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

    def welcome(self, client: str, visitor: str = "") -> str:
        """The id of a visitor who comes from the network address `client`: `visitor` if it is one."""
        if not self._is_genuine(visitor):
            token = secrets.token_urlsafe(ID_BYTES)
            visitor = token + self._signature(token)
        self._note(visitor, client)
        return visitor

    def touch(self, visitor: str) -> None:
        """Takes note that `visitor` is here."""
        if self._is_genuine(visitor):
            self._note(visitor, self.client(visitor))

    def check(self, visitor: str) -> None:
        """Raises `CharlmError` if `visitor` is nobody, who can have nothing of their own."""
        if not self._is_genuine(visitor):
            raise CharlmError(NOBODY if visitor else NOT_YET)

    def client(self, visitor: str) -> str:
        """Where `visitor` comes from: bounds for each client count by it."""
        with self._lock:
            return self._seen.get(visitor, (0.0, ""))[1]

    def is_gone(self, visitor: str, seconds: float | None = None) -> bool:
        """Whether `visitor` has given no sign of life for so many `seconds` (None:
        `limits.FORGET_AFTER_SECONDS`)."""
        with self._lock:
            return self._is_gone(visitor, seconds)

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
            self._seen = {v: seen for v, seen in self._seen.items() if not self._is_gone(v)}

    def close(self) -> None:
        """Removes the folder with all that is in it."""
        self._closed.set()
        self._mine.release()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _note(self, visitor: str, client: str) -> None:
        with self._lock:
            self._seen.pop(visitor, None)
            self._seen[visitor] = time.monotonic(), client
            if len(self._seen) > limits.MAX_VISITORS:
                del self._seen[next(iter(self._seen))]

    def _signature(self, token: str) -> str:
        digest = hmac.digest(self._key, token.encode(), "sha256")[:ID_BYTES]
        return base64.urlsafe_b64encode(digest).decode()

    def _is_genuine(self, visitor: object) -> bool:
        if not isinstance(visitor, str) or len(visitor) != ID_CHARS or not visitor.isascii():
            return False
        token, signature = visitor[: ID_CHARS // 2], visitor[ID_CHARS // 2 :]
        return hmac.compare_digest(signature, self._signature(token))

    def _is_gone(self, visitor: str, seconds: float | None = None) -> bool:
        at, _ = self._seen.get(visitor, (float("-inf"), ""))
        return time.monotonic() - at > (limits.FORGET_AFTER_SECONDS if seconds is None else seconds)

    def _sweep_for_ever(self) -> None:
        while not self._closed.wait(SWEEP_INTERVAL_SECONDS):
            self.sweep()


def _remove_left_folders() -> None:
    """Removes what apps have left that were killed."""
    for lock in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{LOCK}"):
        with suppress(OSError, Timeout), FileLock(lock, timeout=0):
            shutil.rmtree(lock.parent, ignore_errors=True)
