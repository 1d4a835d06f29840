"""An app on one's own machine is for one's own browser: a page from elsewhere that this browser shows must
not use it, by the name of a host that leads here (DNS rebinding) or by sending forms."""

from __future__ import annotations

import ipaddress
import os
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from charlm.ui.requests import refusal

SETTING = "CHARLM_HOSTS"
"""The environment variable that names more hosts, between commas: those of a reverse proxy, for example."""


class Hosts:
    """ASGI middleware that refuses requests to, and from pages of, other hosts than this machine."""

    def __init__(self, app: ASGIApp):
        self.app = app
        self._own = {host.strip() for host in os.environ.get(SETTING, "").split(",")} - {""}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.app
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            if not self._is_own(f"//{headers.get('host', 'localhost')}"):
                app = refusal(403, f"This app is at localhost; {SETTING} can name other hosts.")
            elif origin is not None and not self._is_own(origin):
                app = refusal(403, "A page from elsewhere cannot use this app.")
        await app(scope, receive, send)

    def _is_own(self, address: str) -> bool:
        try:
            host = urlsplit(address).hostname or ""
        except ValueError:
            return False
        return is_loopback(host) or host in self._own


def is_loopback(host: str) -> bool:
    """Whether a name or an address of a host is this machine's."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
