"""What stands before Gradio's own routes: only those that the page and its programs need are open, what is
sent is bounded in size and time, and every answer has headers for safety."""

from __future__ import annotations

import asyncio
import re
from collections import Counter

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from charlm.service.limits import MAX_CALL_BYTES, MAX_FILE_BYTES
from charlm.ui.requests import UPLOAD, Refused, answer, client_of, refusal

ROUTES = {
    "GET": r"/|/config|/theme\.css|/favicon\.ico|/robots\.txt|/manifest\.json|/pwa_icon(/\d+)?"
    r"|/(assets|static)/.+"
    r"|/gradio_api/(info/?|app_id/?|openapi\.json|theme\.css|startup-events|upload_progress|queue/(status|data)"
    r"|heartbeat/[^/]+|file=.+|call/.+|mcp(/.*)?)",
    "POST": r"/generate/(write|score)"
    r"|/gradio_api/(queue/join|cancel|reset/?|upload|component_server/?|run/.+|call/.+|mcp(/.*)?)",
    "DELETE": r"/gradio_api/mcp(/.*)?",
    "HEAD": r"/",
    "OPTIONS": r"/.*",
}
"""Gradio has many more, which record, profile, edit or watch an app, and keep what they are sent."""
ENVELOPE_BYTES = 100_000
"""What stands around a file in the request that brings it."""
SECONDS_A_PIECE = 20
SECONDS_A_CALL = 60
SECONDS_AN_UPLOAD = 600
"""How long the next piece of a body, a whole call and a whole upload may take."""
MAX_REQUESTS = 300
"""How many requests of one client may be open at a time: a class behind one address has ten for each."""
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    # Gradio's page has scripts of its own in it, and makes functions of what it is sent as text. On a Space
    # it loads what tells the page around it how tall it is.
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'self'",
            "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob: https://cdnjs.cloudflare.com",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "worker-src 'self' blob:",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-ancestors 'self' https://huggingface.co https://*.hf.space",
        )
    ),
}


class Guard:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp):
        self.app = app
        self._open: Counter[str] = Counter()
        """How many requests of each client are not answered yet."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        client = client_of((scope.get("client") or ("",))[0])
        self._open[client] += 1
        try:
            app = self._refusal(scope, client) or self.app
            await answer(app, scope, _bounded(scope, receive), send_with_headers)
        finally:
            self._open.subtract([client])
            self._open = +self._open  # without clients that have none

    def _refusal(self, scope: Scope, client: str) -> Response | None:
        """Why a request is not carried out, if its head tells."""
        if not re.fullmatch(ROUTES.get(scope["method"], "-"), scope["path"]):
            return refusal(404, "There is nothing here.")
        if self._open[client] > MAX_REQUESTS:
            return refusal(429, f"At most {MAX_REQUESTS} requests of one client are answered at a time.")
        return _size_refusal(scope) if scope["method"] == "POST" else None


def _size_refusal(scope: Scope) -> Response | None:
    """Why a body is not received, if the request tells its size."""
    length = Headers(scope=scope).get("content-length", "0")
    return None if length.isdecimal() and int(length) <= _most_bytes(scope) else _too_large(scope)


def _most_bytes(scope: Scope) -> int:
    return MAX_FILE_BYTES + ENVELOPE_BYTES if scope["path"] == UPLOAD else MAX_CALL_BYTES


def _too_large(scope: Scope) -> Response:
    if scope["path"] == UPLOAD:
        sentence = f"A file may have {MAX_FILE_BYTES:,} bytes."
    else:
        sentence = f"A call may have {MAX_CALL_BYTES:,} bytes: the page takes a longer text as a file."
    return refusal(413, sentence, connection="close")


def _bounded(scope: Scope, receive: Receive) -> Receive:
    """`receive`, which raises `Refused` if the body takes too long, or grows too large: one that comes in
    chunks does not tell its size before."""
    loop = asyncio.get_running_loop()
    end = loop.time() + (SECONDS_AN_UPLOAD if scope["path"] == UPLOAD else SECONDS_A_CALL)
    size, whole = 0, False

    async def receive_bounded() -> Message:
        nonlocal size, whole
        if whole:  # What comes now is the client's leaving, whenever that is.
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), min(SECONDS_A_PIECE, end - loop.time()))
        except asyncio.TimeoutError as error:
            slow = refusal(408, "The rest of this request did not come in time.", connection="close")
            raise Refused(slow) from error
        size += len(message.get("body", b""))
        if size > _most_bytes(scope):
            raise Refused(_too_large(scope))
        whole = not message.get("more_body", False)
        return message

    return receive_bounded
