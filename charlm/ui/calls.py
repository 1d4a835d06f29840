"""Whether a call fits a function of the page, before Gradio, which puts arguments in their places unchecked,
and opens whatever an argument names as a file."""

from __future__ import annotations

import inspect
import logging
import os
from pathlib import Path
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from charlm.ui.api import endpoints
from charlm.ui.requests import CALL, JOIN, UPLOAD, body_of, fields_of, refusal, with_fields

BY_NAME = f"{CALL}v2/"
"""Where programs call a function with its arguments by name."""
MISTAKES = (LookupError, TypeError, ValueError)
"""What Gradio raises for a wrong call."""

log = logging.getLogger(__name__)


class Calls:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp):
        self.app = app
        self._endpoints = endpoints()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or scope["method"] != "POST" or path == UPLOAD:
            await self.app(scope, receive, send)
            return
        begun = False

        async def listen(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        body, receive = await body_of(receive)
        fields = fields_of(body)
        wrong = self._wrong_call(path, fields) if path.startswith(CALL) else None
        if wrong is None and _names_foreign_file(fields):
            wrong = refusal(400, "This call names a file that was not uploaded here.")
        if wrong is None and path.startswith(BY_NAME):
            scope, receive = self._by_position(scope, receive, fields)
        elif wrong is None and path.startswith(CALL) and isinstance(fields.get("data"), list):
            scope, receive = self._with_defaults(scope, receive, fields)
        try:
            await (wrong or self.app)(scope, receive, listen)
        except MISTAKES:
            if begun or path != JOIN:
                raise
            log.exception("A call fitted no function of the page")
            await _mistake("This call fits no function here.")(scope, receive, send)

    def _by_position(self, scope: Scope, receive: Receive, fields: dict[str, Any]) -> tuple[Scope, Receive]:
        """A call with named arguments as the one with all arguments in their order, which may name a
        session."""
        path = scope["path"].replace(BY_NAME, CALL)
        parameters = self._endpoints[path.split(CALL, 1)[1].strip("/")].parameters.values()
        data = [fields.get(parameter.name, parameter.default) for parameter in parameters]
        return with_fields({"data": data}, {**scope, "path": path, "raw_path": path.encode()}, receive)

    def _with_defaults(self, scope: Scope, receive: Receive, fields: dict[str, Any]) -> tuple[Scope, Receive]:
        """A call with all its arguments, of which the last may be left out."""
        data = fields["data"]
        parameters = list(self._endpoints[scope["path"].split(CALL, 1)[1].strip("/")].parameters.values())
        if len(data) == len(parameters):
            return scope, receive
        data += [parameter.default for parameter in parameters[len(data) :]]
        return with_fields(fields, scope, receive)

    def _wrong_call(self, path: str, fields: dict[str, Any]) -> Response | None:
        """What is wrong with a call by name: no such function, or not its parameters."""
        by_name = path.startswith(BY_NAME)
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
        elif isinstance(fields.get("data"), list):
            given = len(fields["data"])
            fewest = sum(p.default is inspect.Parameter.empty for p in parameters.values())
            if not fewest <= given <= len(parameters):
                return _mistake(f"{wanted}: {len(parameters)} arguments in this order, not {given}.")
        return None


def _mistake(sentence: str) -> Response:
    return refusal(400, f"{sentence} /gradio_api/info lists all functions.")


def _names_foreign_file(value: Any) -> bool:
    """Whether a file is named, at any depth, that does not lie in the folder of uploads: Gradio would open
    it, or fetch it if it is an address."""
    folder = Path(os.environ["GRADIO_TEMP_DIR"])
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            path = value.get("path")
            if "meta" in value and not (
                isinstance(path, str) and folder in Path(os.path.abspath(path)).parents
            ):
                return True
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return False
