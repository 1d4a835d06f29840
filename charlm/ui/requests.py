"""How functions of the app are called over HTTP, for what stands before Gradio's routes."""

from __future__ import annotations

import json
from typing import Any

from starlette.types import Message, Receive

CALL, JOIN, STREAM = "/gradio_api/call/", "/gradio_api/queue/join", "/gradio_api/queue/data"
"""Where programs call a function by its name, where the page and Gradio's clients call one by its number,
and where these read the answers to their session."""


async def body_of(receive: Receive) -> tuple[bytes, Receive]:
    """The body of a request, and what receives the request as if nobody had read it."""
    messages = [await receive()]
    while messages[-1].get("more_body"):
        messages.append(await receive())
    body = b"".join(message.get("body", b"") for message in messages)
    waiting = iter(messages)

    async def again() -> Message:
        return next(waiting, None) or await receive()

    return body, again


def fields_of(body: bytes) -> dict[str, Any]:
    """The fields of a body in JSON; none if it is no JSON object."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}
