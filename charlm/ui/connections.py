"""The connections to the server: how many there may be, and how long one may wait for its request.

Uvicorn closes a connection that was silent after an answer, and refuses requests beyond its
`limit_concurrency`. It has no limit for the first request: whoever never sends its last byte would be waited
for for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS = 20
"""How long a connection may take to send the head of a request."""
MAX_CONNECTIONS = 1_000
FILES_A_CONNECTION = 2
"""How many of the files that the process may have open are kept for each connection: uploads, pipes to
training processes and what is read from the disk need some as well."""


def max_connections() -> int:
    """How many connections this process may hold, after its limit of open files was raised as far as the
    system lets it."""
    try:
        import resource
    except ImportError:  # Windows has no such limit.
        return MAX_CONNECTIONS
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if files < 0 else min(MAX_CONNECTIONS, files // FILES_A_CONNECTION)


@dataclass
class _Busy:
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    requests: int = 0


class Connections:
    """ASGI middleware, the outermost, and the protocol that takes note of each connection for it."""

    def __init__(self, app: ASGIApp, most: int):
        self.app = app
        self.most = most
        self._idle: dict[tuple[str, int], tuple[asyncio.Transport, asyncio.TimerHandle]] = {}
        """The connections without a request, by their address, and when each is closed: the one that has
        waited longest first."""
        self._busy: dict[tuple[str, int], _Busy] = {}
        """The connections with a request."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        address: Any = scope.get("client")
        if scope["type"] == "http" and address in self._idle:
            transport, closing = self._idle.pop(address)
            closing.cancel()
            self._busy[address] = _Busy(asyncio.get_running_loop(), transport)
        busy = self._busy.get(address) if scope["type"] == "http" else None
        if busy is None:
            await self.app(scope, receive, send)
            return
        # The next request may begin while the last, which is answered, is still being put away.
        busy.requests += 1
        try:
            await self.app(scope, receive, send)
        finally:
            busy.requests -= 1
            if not busy.requests and self._busy.get(address) is busy:
                del self._busy[address]
                self._wait_for_request(address, busy.transport)

    def protocol(self) -> type[asyncio.Protocol]:
        """What Uvicorn is given as its `http`."""
        connections = self

        class Watched(H11Protocol):
            def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
                super().connection_made(transport)
                connections._made(transport)

            def connection_lost(self, exc: Exception | None) -> None:
                super().connection_lost(exc)
                connections._lost(self.client)

        return Watched

    def abort(self) -> None:
        """Ends all connections, whatever is being sent. For other threads than the event loop's."""
        for busy in list(self._busy.values()):
            with contextlib.suppress(RuntimeError):  # The loop has ended.
                busy.loop.call_soon_threadsafe(busy.transport.abort)

    def _made(self, transport: asyncio.Transport) -> None:
        address = transport.get_extra_info("peername")
        if self._idle and len(self._idle) + len(self._busy) >= self.most:
            longest = next(iter(self._idle))
            self._idle[longest][0].abort()
            self._lost(longest)
        self._wait_for_request(address[:2], transport)

    def _wait_for_request(self, address: tuple[str, int], transport: asyncio.Transport) -> None:
        closing = asyncio.get_running_loop().call_later(HEADER_SECONDS, transport.abort)
        self._idle[address] = transport, closing

    def _lost(self, address: tuple[str, int] | None) -> None:
        if address in self._busy:
            del self._busy[address]
        if address in self._idle:
            self._idle.pop(address)[1].cancel()
