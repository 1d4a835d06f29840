"""How functions of the app are called over HTTP, for what stands before Gradio's routes."""

from __future__ import annotations

import ipaddress
import json
from typing import Any

from pydantic import ValidationError
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CALL, JOIN, STREAM = "/gradio_api/call/", "/gradio_api/queue/join", "/gradio_api/queue/data"
"""Where programs call a function by its name, where the page and Gradio's clients call one by its number,
and where these read the answers to their session."""
UPLOAD = "/gradio_api/upload"
"""Where files go."""
NETWORK_BITS = 64
"""How much of an IPv6 address is one client's: whoever has one address has all that begin like this."""


def refusal(status: int, sentence: str, **headers: str) -> Response:
    """An answer under the names by which the page and Gradio's clients look for an error."""
    return JSONResponse({"error": sentence, "detail": sentence}, status, headers)


def mistake(error: ValidationError) -> str:
    """What is wrong with the first field that pydantic refuses, in a sentence."""
    first = error.errors()[0]
    field = first["loc"][-1] if first["loc"] else "The request"
    return f"{field}: {first['msg']}, not {str(first['input'])[:100]!r}."


class Refused(Exception):
    """A body that shows on its way that it must be refused."""

    def __init__(self, response: Response):
        super().__init__()
        self.response = response


async def answer(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Has `app` answer a request. If `receive` raises `Refused`, that is the answer, not what the app makes
    of a body that breaks off."""
    refused: Refused | None = None
    begun = False

    async def receive_or_note() -> Message:
        nonlocal refused
        try:
            return await receive()
        except Refused as error:
            refused = error
            raise

    async def send_unless_refused(message: Message) -> None:
        nonlocal begun
        if refused is None:
            begun = True
            await send(message)

    try:
        await app(scope, receive_or_note, send_unless_refused)
    except Exception:
        if refused is None:
            raise
    if refused is not None and not begun:
        await refused.response(scope, receive, send)


def client_of(address: str) -> str:
    """By which name the bounds for each client know whoever has this network address."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((parsed, NETWORK_BITS), strict=False).network_address)
    return str(parsed)


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
