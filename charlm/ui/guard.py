"""What stands before Gradio's own routes: bounds on what is sent and on all uploads together, headers for
safety, and a sentence for whoever calls what is not there."""

from __future__ import annotations

import inspect
import logging
import os
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from charlm.service.limits import MAX_CALL_BYTES, MAX_CORPUS_CHARS
from charlm.ui.api import endpoints
from charlm.ui.requests import CALL, JOIN, body_of, fields_of

MAX_UPLOAD_BYTES = 4 * MAX_CORPUS_CHARS
"""The largest file, of four bytes a character. A request brings one, and some bytes around it."""
MAX_UPLOADS = 1_000
MAX_UPLOADED_BYTES = 500_000_000
"""How many may lie there together, and how large. Gradio deletes what is older than half an hour."""
UPLOAD = "/gradio_api/upload"
MISTAKES = (LookupError, TypeError, ValueError)
"""What Gradio, which puts arguments in their places unchecked, raises for a wrong call."""
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}

log = logging.getLogger(__name__)


class Guard:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp):
        self.app = app
        self._endpoints = endpoints()

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

        path, posted = scope["path"], scope["method"] == "POST"
        refusal = _refusal(scope) if posted else None
        if posted and refusal is None and CALL in path:
            body, receive = await body_of(receive)
            refusal = self._wrong_call(path, fields_of(body))
        try:
            await (refusal or self.app)(scope, receive, send_with_headers)
        except MISTAKES:
            if begun or not posted or JOIN not in path:
                raise
            log.exception("A call fitted no function of the page")
            told = "This call fits no function here: /gradio_api/info lists them."
            await PlainTextResponse(told, 400)(scope, receive, send_with_headers)

    def _wrong_call(self, path: str, fields: dict[str, Any]) -> Response | None:
        """What is wrong with a call by name: no such function, or not its parameters."""
        name = path.split(CALL, 1)[1].strip("/")
        by_name = name.startswith("v2/")
        name = name.removeprefix("v2/")
        signature = self._endpoints.get(name)
        if signature is None:
            return _mistake(f"There is no function {name!r:.100} here.")
        parameters = signature.parameters
        wanted = f"{name} takes {', '.join(parameters) or 'no arguments'}"
        if by_name:
            unknown = [field for field in fields if field not in parameters]
            required = [n for n, p in parameters.items() if p.default is inspect.Parameter.empty]
            missing = [n for n in required if n not in fields]
            if unknown or missing:
                return _mistake(
                    f"{wanted}; {(unknown or missing)[0]!r:.100} is {'not one' if unknown else 'missing'}."
                )
        elif isinstance(fields.get("data"), list) and len(fields["data"]) != len(parameters):
            return _mistake(
                f"{wanted}: {len(parameters)} arguments in this order, not {len(fields['data'])}."
            )
        return None


def _mistake(sentence: str) -> Response:
    return PlainTextResponse(f"{sentence} /gradio_api/info lists all functions.", 400)


def _refusal(scope: Scope) -> Response | None:
    """Why a request is too large, or comes when too much was uploaded."""
    length = Headers(scope=scope).get("content-length", "")
    if not length.isdecimal():
        return PlainTextResponse("A request must tell its length.", 411)
    is_upload = UPLOAD in scope["path"]
    limit = MAX_UPLOAD_BYTES + 100_000 if is_upload else MAX_CALL_BYTES
    if int(length) > limit:
        what = "A file may have" if is_upload else "Upload a longer text as a file: a call may have"
        return PlainTextResponse(f"{what} {limit:,} bytes.", 413)
    if is_upload:
        folder = Path(os.environ["GRADIO_TEMP_DIR"])
        lying = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
        if len(lying) > MAX_UPLOADS or sum(lying) > MAX_UPLOADED_BYTES:
            return PlainTextResponse("Too many files were uploaded lately: please try again later.", 507)
    return None
