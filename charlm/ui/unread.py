"""Answers that nobody reads.

Gradio keeps the answers to a session until somebody reads them, or two thousand other sessions have come.
Beyond `MAX_UNREAD` the oldest are thrown away here, in the one way that is open to everybody: whoever
begins to read and leaves is forgotten, with all that waits for him.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, deque
from contextlib import suppress
from urllib.parse import parse_qs, urlencode

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from charlm.ui.requests import CALL, JOIN, STREAM, body_of, fields_of

MAX_UNREAD = 100
"""How many answers wait to be read."""
SECONDS_TO_BEGIN = 5
THROWN_AWAY = "Nobody fetched this answer, so it was thrown away: please ask again."


class UnreadAnswers:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp):
        self.app = app
        self._unread: dict[str, list[str]] = {}
        """The calls whose answers nobody reads, by session, the oldest first."""
        self._readers: Counter[str] = Counter()
        """How many read the answers to a session right now."""
        self._thrown_away: deque[str] = deque(maxlen=10_000)
        """The calls and sessions whose answers are gone."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = scope.get("path", ""), scope.get("method")
        if method == "POST" and (CALL in path or JOIN in path):
            await self._ask(scope, receive, send)
        elif method == "GET" and CALL in path:
            event = path.rstrip("/").rsplit("/", 1)[1]
            await self._read(event, self._session_of(event), scope, receive, send)
        elif method == "GET" and STREAM in path:
            (session, *_) = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])
            await self._read(session, session, scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _ask(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a call on, and takes note of it unless somebody reads the answers to its session."""
        asked = dict(scope)
        body, receive = await body_of(receive)
        answer = bytearray()

        async def listen(message: Message) -> None:
            answer.extend(message.get("body", b""))
            await send(message)

        await self.app(scope, receive, listen)
        event = str(fields_of(bytes(answer)).get("event_id") or "")
        session = str(fields_of(body).get("session_hash") or event)
        if event and not self._readers[session]:
            self._unread.setdefault(session, []).append(event)
        while sum(map(len, self._unread.values())) > MAX_UNREAD:
            await self._throw_away(next(iter(self._unread)), asked)

    def _session_of(self, event: str) -> str:
        """A call that names no session is a session of its own."""
        return next((session for session, events in self._unread.items() if event in events), event)

    async def _read(self, asked: str, session: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets somebody read the answers to a session, if they are still there."""
        if asked in self._thrown_away:
            told = f"event: error\ndata: {json.dumps({'error': THROWN_AWAY})}\n\n"
            await PlainTextResponse(told, media_type="text/event-stream")(scope, receive, send)
            return
        self._unread.pop(session, None)
        self._readers[session] += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self._readers.subtract([session])
            self._readers = +self._readers  # without sessions that nobody reads

    async def _throw_away(self, session: str, asked: Scope) -> None:
        """Begins to read the answers to a session and leaves; `asked` is some call's scope."""
        self._thrown_away.extend((session, *self._unread.pop(session)))
        before = asked["path"].split("/gradio_api/")[0]
        reading = {
            **asked,
            "method": "GET",
            "path": before + STREAM,
            "raw_path": (before + STREAM).encode(),
            "query_string": urlencode({"session_hash": session}).encode(),
        }
        begun = asyncio.Event()

        async def never() -> Message:
            return await asyncio.get_running_loop().create_future()

        async def take(message: Message) -> None:
            if message.get("body"):
                begun.set()

        reader = asyncio.ensure_future(self.app(reading, never, take))
        beginning = asyncio.ensure_future(begun.wait())
        await asyncio.wait({reader, beginning}, timeout=SECONDS_TO_BEGIN, return_when=asyncio.FIRST_COMPLETED)
        for task in (reader, beginning):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task
