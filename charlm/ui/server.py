"""The web server: Uvicorn, with what stands before Gradio's routes, and limits that Gradio's own `launch`
cannot be given. The environment variables that say where to listen are Gradio's."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.routing import Route
from starlette.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from charlm.errors import CharlmError
from charlm.service.limits import MAX_FILE_BYTES
from charlm.ui import theme
from charlm.ui.calls import Calls
from charlm.ui.compression import Compression
from charlm.ui.connections import Connections, max_connections
from charlm.ui.guard import Guard
from charlm.ui.hosts import Hosts, is_loopback
from charlm.ui.unread import UnreadAnswers
from charlm.ui.uploads import Uploads

FIRST_PORT = 7860
MAX_PORT = 65_536
BACKLOG = 128
"""How many connections the system holds until they are accepted."""
SECONDS_TO_END = 0.5
"""How long answers that are being sent may take when the server ends. Those that are streams have no end."""
SECONDS_BETWEEN_COMPLAINTS = 60
PRIVATE_NETWORKS = "127.0.0.0/8,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,::1,fc00::/7"
"""Where the proxies of a Space are, which tell whose request they pass on."""

log = logging.getLogger(__name__)


def serve(app: gr.Blocks, routes: Sequence[Route], started: Callable[[], object]) -> None:
    """Serves the page, and other `routes` beside it, until the process is told to end, by Ctrl-C or SIGTERM.
    `started` is called once it can be reached.

    Raises `CharlmError` if there is no free port.
    """
    ending = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Only a note is taken: an exception raised here could end up in whatever runs at the moment.
        signal.signal(number, lambda *_: ending.set())
    host = os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1").strip("[]")
    listening = _listen(host)
    port = listening.getsockname()[1]
    connections = _guarded(app, routes, host, port)
    server = _server(connections)
    # What was imported stays: searched for garbage, it would keep every thread waiting for 0.2 s.
    gc.freeze()
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True, name="charlm-server")
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    if server.started:
        print(f"* Running on local URL:  http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)
        started()
    while thread.is_alive() and not ending.wait(
        1
    ):  # On Windows, a wait without an end cannot be interrupted.
        pass
    app.close(verbose=False)
    server.should_exit = True
    thread.join(SECONDS_TO_END)
    connections.abort()
    thread.join()


def _listen(host: str) -> socket.socket:
    """A socket on the port that is asked for, or on the first free one from `FIRST_PORT` on."""
    if "GRADIO_SERVER_PORT" in os.environ:
        ports = range(_port("GRADIO_SERVER_PORT"), _port("GRADIO_SERVER_PORT") + 1)
    else:
        ports = range(FIRST_PORT, FIRST_PORT + _port("GRADIO_NUM_PORTS", "100"))
    reason = ""
    for port in ports:
        try:
            return _listen_at(host, port)
        except OSError as error:
            reason = error.strerror or str(error)
    raise CharlmError(f"Cannot listen on {host}, port {ports[0]} to {ports[-1]}: {reason}.")


def _port(variable: str, default: str = "") -> int:
    """The number in an environment variable."""
    value = os.environ.get(variable, default)
    if not value.isdecimal() or not 0 < int(value) < MAX_PORT:
        raise CharlmError(f"{variable} must be from 1 to {MAX_PORT - 1}, not {value!r:.100}.")
    return int(value)


def _listen_at(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    # asyncio has an answer sent at once only where the socket names its protocol.
    listening = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if host == "::" and socket.has_dualstack_ipv6():
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def _guarded(app: gr.Blocks, routes: Sequence[Route], host: str, port: int) -> Connections:
    """The page behind all that stands before it."""
    page = FastAPI(lifespan=_lifespan, openapi_url=None)
    page.routes.extend(routes)
    gr.mount_gradio_app(page, app, "/", server_name=host, server_port=port, **_mounting())
    # Gradio lets a visitor name any file of the machine until an app was launched; one that is mounted
    # never is.
    app.has_launched = True
    guarded: ASGIApp = Guard(Compression(page))
    if is_loopback(host):
        guarded = Hosts(guarded)
    trusted = PRIVATE_NETWORKS if "SPACE_ID" in os.environ else "127.0.0.1,::1"
    proxies = os.environ.get("FORWARDED_ALLOW_IPS", trusted)
    return Connections(ProxyHeadersMiddleware(guarded, proxies), max_connections())  # type: ignore[arg-type]


def _server(connections: Connections) -> uvicorn.Server:
    config = uvicorn.Config(
        connections,
        http=connections.protocol(),
        ws="none",
        lifespan="on",
        proxy_headers=False,
        log_level="warning",
        backlog=BACKLOG,
        limit_concurrency=connections.most + 1,
    )
    return uvicorn.Server(config)


def _mounting() -> dict[str, Any]:
    """How the page is mounted, for `gr.mount_gradio_app`."""
    return {
        "theme": theme.THEME,
        "css": theme.styles(),
        "head": theme.scripts(),
        "footer_links": ["api"],
        "mcp_server": True,
        "max_file_size": MAX_FILE_BYTES,
        "run_history": False,
        "show_error": False,
        "enable_monitoring": False,
        "app_kwargs": {"middleware": [Middleware(kind) for kind in (Uploads, Calls, UnreadAnswers)]},
        "root_path": os.environ.get("GRADIO_ROOT_PATH"),
    }


@asynccontextmanager
async def _lifespan(_: FastAPI) -> AsyncIterator[None]:
    """What the event loop fails to do is told once, not for every connection that waits."""
    told: dict[str, float] = {}

    def complain(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        message = f"{context['message']} ({context.get('exception')})"
        if loop.time() - told.get(message, float("-inf")) > SECONDS_BETWEEN_COMPLAINTS:
            told[message] = loop.time()
            log.error("%s", message, exc_info=context.get("exception"))

    asyncio.get_running_loop().set_exception_handler(complain)
    yield
