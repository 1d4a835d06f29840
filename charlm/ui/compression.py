"""What is large and repeats itself is compressed on its way to the browser."""

from __future__ import annotations

from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

PATHS = {"/", "/config"}
"""The page and what it is made from. Gradio's scripts come compressed; texts come in small pieces, which a
compressor would hold back."""
LEVEL = 4
"""Of 1 to 9: beyond, a few bytes less take twice as long."""


class Compression:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp):
        self.app = app
        self.compressed = GZipMiddleware(app, compresslevel=LEVEL)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.compressed if scope["type"] == "http" and scope["path"] in PATHS else self.app
        await app(scope, receive, send)
