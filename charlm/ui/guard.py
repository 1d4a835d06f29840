"""What stands before Gradio's own routes: a bound on all uploads together, headers for safety, and a
sentence for whoever calls what is not there."""

from __future__ import annotations

import traceback
from pathlib import Path

from gradio.utils import get_upload_folder
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from charlm.runs import MAX_TEXT_CHARS

MAX_UPLOAD_BYTES = 4 * MAX_TEXT_CHARS
"""The largest file: a text of four bytes a character. A request brings one, and some bytes around it."""
MAX_UPLOADS = 1_000
MAX_UPLOADED_BYTES = 500_000_000
"""How many may lie there together, and how large. Gradio deletes what is older than half an hour."""
CALLS = ("/call/", "/queue/join")
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Guard:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        begun = False

        async def send_with_headers(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        refusal = _refusal(scope) if scope["path"].endswith("/upload") else None
        try:
            await (refusal or self.app)(scope, receive, send_with_headers)
        except Exception as error:
            # Gradio looks names up, and puts arguments in their places, without a thought of mistakes.
            if begun or not any(route in scope["path"] for route in CALLS):
                raise
            traceback.print_exc()
            told = f"This call fits no function here ({str(error)[:200]}): /gradio_api/info lists them."
            await PlainTextResponse(told, 400)(scope, receive, send_with_headers)


def _refusal(scope: Scope) -> PlainTextResponse | None:
    length = Headers(scope=scope).get("content-length", "")
    if scope["method"] == "POST" and not length.isdecimal():
        return PlainTextResponse("An upload must tell its length.", 411)
    if length.isdecimal() and int(length) > MAX_UPLOAD_BYTES + 100_000:
        return PlainTextResponse(f"A file may have {MAX_UPLOAD_BYTES:,} bytes.", 413)
    lying = [path.stat().st_size for path in Path(get_upload_folder()).rglob("*") if path.is_file()]
    if len(lying) > MAX_UPLOADS or sum(lying) > MAX_UPLOADED_BYTES:
        return PlainTextResponse("Too many files were uploaded lately: please try again later.", 507)
    return None
