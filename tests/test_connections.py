"""How long a connection may wait for its request, and that it does not wait while it has one."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from charlm.ui import connections
from charlm.ui.connections import Connections

ADDRESS = ("127.0.0.1", 50_000)


def test_a_request_that_begins_before_the_last_is_put_away_is_not_cut(monkeypatch: pytest.MonkeyPatch):
    """As the heartbeat of a page, which goes on for ever."""
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.05)
    aborted = []

    async def run() -> None:
        ends = [asyncio.Event(), asyncio.Event()]

        async def app(scope: Any, _receive: Any, _send: Any) -> None:
            await ends[scope["number"]].wait()

        async def begin(number: int) -> asyncio.Task[None]:
            scope = {"type": "http", "client": ADDRESS, "number": number}
            task = asyncio.ensure_future(watched(scope, None, None))
            await asyncio.sleep(0)
            return task

        watched = Connections(app, 10)
        transport = SimpleNamespace(abort=lambda: aborted.append(1), get_extra_info=lambda _: ADDRESS)
        watched._made(transport)
        requests = [await begin(0), await begin(1)]
        ends[0].set()
        await requests[0]
        await asyncio.sleep(0.2)
        assert not aborted
        ends[1].set()
        await requests[1]
        await asyncio.sleep(0.2)
        assert aborted == [1]

    asyncio.run(run())
