"""What stands before Gradio's own routes: bounds on what is sent, on all uploads together and on all answers
that nobody fetches, headers for safety, and a sentence for whoever calls what is not there."""

from __future__ import annotations

import traceback
from pathlib import Path

from gradio.queueing import Queue
from gradio.route_utils import FnIndexInferError
from gradio.server_messages import ProcessCompletedMessage
from gradio.utils import get_upload_folder
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from charlm.runs import MAX_TEXT_CHARS

MAX_UPLOAD_BYTES = 4 * MAX_TEXT_CHARS
"""The largest file or text, of four bytes a character. A request brings one, and some bytes around it."""
MAX_UPLOADS = 1_000
MAX_UPLOADED_BYTES = 500_000_000
"""How many may lie there together, and how large. Gradio deletes what is older than half an hour."""
MAX_UNREAD = 100
"""How many answers wait to be fetched by whoever asked: Gradio keeps all, and one may take 7 MB."""
CALLS = ("/call/", "/queue/join")
MISTAKES = (FnIndexInferError, LookupError, TypeError, ValueError)
"""How Gradio, which looks names up and puts arguments in their places unchecked, takes a wrong call."""
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Guard:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp):
        self.app = app
        self.unread: dict[str, str] = {}
        """The answers that wait, by their event and oldest first, and the session of each."""

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

        is_call = any(route in scope["path"] for route in CALLS)
        if is_call and scope["method"] == "POST":
            self._bound_unread(scope["app"].get_blocks()._queue)
        try:
            await (_refusal(scope) or self.app)(scope, receive, send_with_headers)
        except MISTAKES as error:
            if begun or not is_call:
                raise
            traceback.print_exc()
            told = f"This call fits no function here ({str(error)[:200]}): /gradio_api/info lists them."
            await PlainTextResponse(told, 400)(scope, receive, send_with_headers)

    def _bound_unread(self, queue: Queue) -> None:
        """Puts a sentence in the place of the oldest of too many answers."""
        messages, events = queue.pending_messages_per_session, queue.pending_event_ids_session
        for session in events.keys() - messages.keys():
            del events[session]
        unread = {
            event: session
            for session, ids in events.items()
            for event in ids
            if event not in queue.event_ids_to_events
        }
        # What has waited before stands before what is new.
        self.unread = {event: unread[event] for event in self.unread if event in unread} | unread
        for event in list(self.unread)[:-MAX_UNREAD]:
            session = self.unread.pop(event)
            events[session].discard(event)
            line = messages[session]
            for message in [line.get_nowait() for _ in range(line.qsize())]:
                if message.event_id != event:
                    line.put_nowait(message)
            told = {"error": "Nobody fetched this answer, so it was thrown away: please ask again."}
            line.put_nowait(ProcessCompletedMessage(output=told, success=False, event_id=event))


def _refusal(scope: Scope) -> PlainTextResponse | None:
    if scope["method"] != "POST":
        return None
    length = Headers(scope=scope).get("content-length", "")
    if not length.isdecimal():
        return PlainTextResponse("A request must tell its length.", 411)
    if int(length) > MAX_UPLOAD_BYTES + 100_000:
        return PlainTextResponse(f"A file or a text may have {MAX_UPLOAD_BYTES:,} bytes.", 413)
    if scope["path"].endswith("/upload"):
        lying = [path.stat().st_size for path in Path(get_upload_folder()).rglob("*") if path.is_file()]
        if len(lying) > MAX_UPLOADS or sum(lying) > MAX_UPLOADED_BYTES:
            return PlainTextResponse("Too many files were uploaded lately: please try again later.", 507)
    return None
