"""Bounds on uploads: by request, by client and for all clients together. Gradio deletes what is older than
half an hour."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from charlm.service.limits import MAX_FILE_BYTES
from charlm.ui.requests import UPLOAD, Refused, answer, client_of, refusal

log = logging.getLogger(__name__)

MAX_FILES_A_REQUEST = 10
MAX_CLIENT_FILES = 200
MAX_CLIENT_BYTES = 250_000_000
MAX_FILES = 1_000
MAX_BYTES = 500_000_000
"""How much may lie there together: beyond, the oldest files of whoever has most there make way."""


@dataclass(frozen=True)
class _File:
    client: str
    size: int


class Uploads:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp):
        self.app = app
        self._files: dict[Path, _File] = {}
        """What was uploaded, the oldest first."""
        self._coming: Counter[str] = Counter()
        """The bytes that each client sends right now."""
        self._lock = threading.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != UPLOAD or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        client = client_of((scope.get("client") or ("",))[0])
        # What comes in chunks does not tell its size.
        size = int(Headers(scope=scope).get("content-length", MAX_FILE_BYTES))
        if not await asyncio.to_thread(self._make_room, client, size):
            full = refusal(507, "You uploaded too many files lately: please try again in half an hour.")
            await full(scope, receive, send)
            return
        told = bytearray()

        async def listen(message: Message) -> None:
            told.extend(message.get("body", b""))
            await send(message)

        try:
            await answer(self.app, scope, _counted(scope, receive), listen)
        except OSError as error:
            if told:
                raise
            log.exception("An upload could not be kept")
            full = refusal(507, f"The server could not keep this file: {error.strerror}.")
            await full(scope, receive, send)
        finally:
            await asyncio.shield(asyncio.to_thread(self._keep, client, size, bytes(told)))

    def _make_room(self, client: str, size: int) -> bool:
        """Reserves `size` bytes for `client`; False if it has had its share."""
        with self._lock:
            self._files = {path: file for path, file in self._files.items() if path.exists()}
            own = [file.size for file in self._files.values() if file.client == client]
            if len(own) >= MAX_CLIENT_FILES or sum(own) + self._coming[client] + size > MAX_CLIENT_BYTES:
                return False
            self._coming[client] += size
            while self._files and (len(self._files) >= MAX_FILES or self._bytes() > MAX_BYTES):
                self._remove_one()
            return True

    def _bytes(self) -> int:
        return sum(file.size for file in self._files.values()) + self._coming.total()

    def _remove_one(self) -> None:
        held: Counter[str] = Counter()
        for file in self._files.values():
            held[file.client] += file.size
        (greediest, _), *_ = held.most_common(1)
        path = next(path for path, file in self._files.items() if file.client == greediest)
        del self._files[path]
        with suppress(OSError):
            path.unlink(missing_ok=True)
            path.parent.rmdir()

    def _keep(self, client: str, size: int, told: bytes) -> None:
        """Takes note of the files that Gradio says it has kept."""
        try:
            paths = [Path(path) for path in json.loads(told)]
        except (ValueError, TypeError):
            paths = []
        with self._lock:
            self._coming[client] -= size
            self._coming = +self._coming  # without clients that send nothing
            for path in paths:
                if path.is_file():
                    self._files.pop(path, None)
                    self._files[path] = _File(client, path.stat().st_size)


def _counted(scope: Scope, receive: Receive) -> Receive:
    """`receive`, which raises `Refused` if a body has too many parts."""
    kind = Headers(scope=scope).get("content-type", "")
    boundary = kind.partition("boundary=")[2].split(";")[0].strip(' "').encode("latin-1")
    mark, seen, rest = b"--" + boundary, 0, b""

    async def receive_counted() -> Message:
        nonlocal seen, rest
        message = await receive()
        data = rest + message.get("body", b"")
        seen += data.count(mark)
        # A mark may begin in this piece and end in the next.
        rest = data[max(0, len(data) - len(mark) + 1) :] if not data.endswith(mark) else b""
        if seen > MAX_FILES_A_REQUEST + 1:
            many = f"A request may bring {MAX_FILES_A_REQUEST} files."
            raise Refused(refusal(413, many, connection="close"))
        return message

    return receive_counted
