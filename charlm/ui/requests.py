"""How functions of the app are called over HTTP, for what stands before Gradio's routes."""

from __future__ import annotations

import json
from typing import Any

from starlette.types import Message, Receive, Scope

CALL, JOIN, STREAM = "/gradio_api/call/", "/gradio_api/queue/join", "/gradio_api/queue/data"
"""Where programs call a function by its name, where the page and Gradio's clients call one by its number,
and where these read the answers to their session."""


async def body_of(receive: Receive) -> tuple[bytes, Receive]:
    """The body of a request, and what receives the request as if nobody had read it."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body, replaying(body, receive)


def replaying(body: bytes, receive: Receive) -> Receive:
    """What receives `body`, then whatever else comes."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


def fields_of(body: bytes) -> dict[str, Any]:
    """The fields of a body in JSON; none if it is no JSON object."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def with_fields(fields: dict[str, Any], scope: Scope, receive: Receive) -> tuple[Scope, Receive]:
    """The request with other fields in its body."""
    body = json.dumps(fields).encode()
    headers = [(name, value) for name, value in scope["headers"] if name != b"content-length"]
    headers.append((b"content-length", str(len(body)).encode()))
    return {**scope, "headers": headers}, replaying(body, receive)
