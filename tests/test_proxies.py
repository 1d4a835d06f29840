"""The app behind what stands between it and a browser in other people's houses."""

from __future__ import annotations

import http.client
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import browser
import gradio as gr
import httpx2 as httpx
import pytest
from playwright.sync_api import expect, sync_playwright

from charlm import CharlmError
from charlm.bench.serving import CHROMIUM, CHROMIUM_ARGUMENTS, serving
from charlm.ui import serve

pytestmark = [pytest.mark.slow, pytest.mark.thorough]
PREFIX = "/course/charlm"


@contextmanager
def proxy(url: str) -> Iterator[str]:
    """A reverse proxy with the app at `url` under `PREFIX`: its own address."""
    target = urllib.parse.urlsplit(url).netloc

    class Handler(BaseHTTPRequestHandler):
        def forward(self) -> None:
            if not self.path.startswith(PREFIX):
                self.send_error(404)
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            upstream = http.client.HTTPConnection(target, timeout=60)
            path = self.path.removeprefix(PREFIX) or "/"
            upstream.request(self.command, path, body, {**self.headers, "X-Forwarded-Proto": "http"})
            answer = upstream.getresponse()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.end_headers()
            while piece := answer.read1(65_536):
                self.wfile.write(piece)
                self.wfile.flush()

        do_GET = do_POST = forward

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}{PREFIX}/"
    server.shutdown()


def test_a_prefix_and_a_proxy_that_ends_tls():
    browser.skip_without_browser()
    with serving("app.py", GRADIO_ROOT_PATH=PREFIX, CHARLM_HOSTS="charlm.example") as (url, _):
        headers = {"Host": "charlm.example", "X-Forwarded-Proto": "https"}
        assert httpx.get(f"{url}config", headers=headers).json()["root"] == f"https://charlm.example{PREFIX}"
        with proxy(url) as address, sync_playwright() as p:
            page = p.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS).new_page()
            errors: list[object] = []
            page.on("pageerror", lambda error: errors.append(error))
            page.on("response", lambda response: response.ok or errors.append(response.url))
            page.goto(address)
            page.locator("#start").click()
            expect(page.locator("#written .ch").nth(50)).to_be_attached(timeout=30_000)
            assert not errors


@pytest.mark.parametrize("port", ["99999", "-1", "0"])
def test_a_port_that_is_none_is_told(port: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRADIO_SERVER_PORT", port)
    with pytest.raises(CharlmError, match=f"GRADIO_SERVER_PORT must be from 1 to 65535, not '{port}'"):
        serve(gr.Blocks(analytics_enabled=False), [], lambda: None)
