"""Answers that nobody reads, and the sessions of those who name none.

Gradio keeps the answers to a session until somebody reads them, or two thousand other sessions have come.
Beyond `MAX_UNREAD` the oldest are thrown away here, in the one way that is open to everybody: whoever
begins to read and leaves is forgotten, with all that waits for him.

For Gradio a call by curl is a session of its own, and it remembers something of each for ever. Here such
calls are lent a session, and the next one gets it when the answer was read.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import Counter, deque
from contextlib import suppress
from urllib.parse import parse_qs, urlencode

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from charlm.ui.requests import CALL, JOIN, STREAM, body_of, fields_of, with_fields

MAX_UNREAD = 100
"""How many answers wait to be read."""
SECONDS_TO_BEGIN = 5
SECONDS_TO_TAKE = 60
"""How long a reader may leave what it is sent on the way before it counts as gone."""
LAST_EVENTS = (b"event: complete\n", b"event: error\n")
"""How the last message to a call begins."""
THROWN_AWAY = "Nobody fetched this answer, so it was thrown away: please ask again."


class UnreadAnswers:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp):
        self.app = app
        self._unread: dict[str, list[str]] = {}
        """The calls whose answers nobody reads, by session, the oldest first."""
        self._readers: Counter[str] = Counter()
        """How many read the answers to a session right now."""
        self._lent: dict[str, str] = {}
        """The calls that named no session, and which they were lent."""
        self._free: list[str] = []
        """The sessions to lend."""
        self._thrown_away: deque[str] = deque(maxlen=10_000)
        """The calls whose answers are gone."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = scope.get("path", ""), scope.get("method")
        if method == "POST" and (CALL in path or JOIN in path):
            await self._ask(scope, receive, send)
        elif method == "GET" and CALL in path:
            await self._read_call(path.rstrip("/").rsplit("/", 1)[1], scope, receive, send)
        elif method == "GET" and STREAM in path:
            (session, *_) = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])
            await self._read(session, scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _ask(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a call on, and takes note of it unless somebody reads the answers to its session."""
        body, receive = await body_of(receive)
        fields = fields_of(body)
        session, lent = str(fields.get("session_hash") or ""), ""
        if fields and not session and CALL in scope["path"]:
            session = lent = self._free.pop() if self._free else secrets.token_hex(16)
            scope, receive = with_fields(fields | {"session_hash": session}, scope, receive)
        asked = dict(scope)
        answer = bytearray()

        async def listen(message: Message) -> None:
            answer.extend(message.get("body", b""))
            await send(message)

        event = ""
        try:
            await self.app(scope, receive, listen)
            event = str(fields_of(bytes(answer)).get("event_id") or "")
        finally:
            if lent and event:
                self._lent[event] = lent
            elif lent:
                self._free.append(lent)
        if event and not self._readers[session]:
            self._unread.setdefault(session, []).append(event)
        while sum(map(len, self._unread.values())) > MAX_UNREAD:
            await self._throw_away(next(iter(self._unread)), asked)

    async def _read_call(self, event: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets somebody read the answer to one call, if it is still there."""
        if event in self._thrown_away:
            sentence = json.dumps({"error": THROWN_AWAY})
            response = PlainTextResponse(
                f"event: error\ndata: {sentence}\n\n", media_type="text/event-stream"
            )
            await response(scope, receive, send)
            return
        named = (session for session, events in self._unread.items() if event in events)
        session = self._lent.get(event) or next(named, event)
        completed = False

        async def listen(message: Message) -> None:
            nonlocal completed
            completed = completed or message.get("body", b"").startswith(LAST_EVENTS)
            await send(message)

        try:
            await self._read(session, scope, receive, listen)
        finally:
            if not self._readers[session]:
                lent = self._lent.pop(event, "")
                # Of an answer that was not read to its end the rest may still lie there.
                self._free += [lent] if lent and completed else []

    async def _read(self, session: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets somebody read the answers to a session."""
        self._unread.pop(session, None)
        asked = dict(scope)

        async def send_in_time(message: Message) -> None:
            await asyncio.wait_for(send(message), SECONDS_TO_TAKE)

        self._readers[session] += 1
        try:
            await self.app(scope, receive, send_in_time)
        except asyncio.TimeoutError:
            await self._leave(session, asked)
        finally:
            self._readers.subtract([session])
            self._readers = +self._readers  # without sessions that nobody reads

    async def _throw_away(self, session: str, asked: Scope) -> None:
        """Has the answers to a session forgotten; `asked` is the scope of some call."""
        events = self._unread.pop(session)
        self._thrown_away.extend(events)
        for event in events:
            # Not to be lent again: Gradio still waits for the end of this call before it ends a reading.
            self._lent.pop(event, None)
        await self._leave(session, asked)

    async def _leave(self, session: str, asked: Scope) -> None:
        """Begins to read the answers to a session and leaves."""
        path = asked["path"].split("/gradio_api/")[0] + STREAM
        query = urlencode({"session_hash": session}).encode()
        reading = {**asked, "method": "GET", "path": path, "raw_path": path.encode(), "query_string": query}
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
