"""What stands before Gradio's own routes: bounds on what is sent and on all uploads together, headers for
safety, and a sentence for whoever calls what is not there."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from charlm.service.limits import MAX_CALL_BYTES, MAX_FILE_BYTES
from charlm.ui.api import endpoints
from charlm.ui.requests import CALL, JOIN, body_of, fields_of, with_fields

ENVELOPE_BYTES = 100_000
"""What stands around a file in the request that brings it."""
MAX_UPLOADS = 1_000
MAX_UPLOADED_BYTES = 500_000_000
"""How many files may lie there together, each in its folder, and how large. Gradio deletes what is older
than half an hour."""
UPLOAD, BY_NAME = "/gradio_api/upload", f"{CALL}v2/"
"""Where files go, and where programs call a function with its arguments by name."""
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
        refusal = await _refusal(scope) if posted else None
        if posted and refusal is None and CALL in path:
            body, receive = await body_of(receive)
            fields = fields_of(body)
            refusal = self._wrong_call(path, fields)
            if refusal is None and BY_NAME in path:
                scope, receive = self._by_position(scope, receive, fields)
        try:
            await (refusal or self.app)(scope, receive, send_with_headers)
        except MISTAKES:
            if begun or not posted or JOIN not in path:
                raise
            log.exception("A call fitted no function of the page")
            await _mistake("This call fits no function here.")(scope, receive, send_with_headers)

    def _by_position(self, scope: Scope, receive: Receive, fields: dict[str, Any]) -> tuple[Scope, Receive]:
        """A call with named arguments as the one with all arguments in their order, which may name a
        session."""
        path = scope["path"].replace(BY_NAME, CALL)
        parameters = self._endpoints[path.split(CALL, 1)[1].strip("/")].parameters.values()
        data = [fields.get(parameter.name, parameter.default) for parameter in parameters]
        return with_fields({"data": data}, {**scope, "path": path, "raw_path": path.encode()}, receive)

    def _wrong_call(self, path: str, fields: dict[str, Any]) -> Response | None:
        """What is wrong with a call by name: no such function, or not its parameters."""
        by_name = BY_NAME in path
        name = path.split(BY_NAME if by_name else CALL, 1)[1].strip("/")
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
    return _answer(400, f"{sentence} /gradio_api/info lists all functions.")


def _answer(status: int, sentence: str) -> Response:
    """A refusal, under the names by which the page and Gradio's clients look for one."""
    return JSONResponse({"error": sentence, "detail": sentence}, status)


async def _refusal(scope: Scope) -> Response | None:
    """Why a request is too large, or comes when too much was uploaded."""
    length = Headers(scope=scope).get("content-length", "")
    if not length.isdecimal():
        return _answer(411, "A request must tell its length.")
    is_upload = UPLOAD in scope["path"]
    if is_upload and int(length) > MAX_FILE_BYTES + ENVELOPE_BYTES:
        return _answer(413, f"A file may have {MAX_FILE_BYTES:,} bytes.")
    if not is_upload and int(length) > MAX_CALL_BYTES:
        return _answer(
            413, f"A call may have {MAX_CALL_BYTES:,} bytes: the page takes a longer text as a file."
        )
    if is_upload and await asyncio.to_thread(_is_full, Path(os.environ["GRADIO_TEMP_DIR"])):
        return _answer(507, "Too many files were uploaded lately: please try again later.")
    return None


def _is_full(folder: Path) -> bool:
    """Whether too much lies in the folder of uploads."""
    sizes = []
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # deleted meanwhile
            sizes.append(path.stat().st_size if path.is_file() else 0)
    return len(sizes) > 2 * MAX_UPLOADS or sum(sizes) > MAX_UPLOADED_BYTES
