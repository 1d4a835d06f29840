"""The app in a process of its own, and the browser that looks at it: for measurements and tests."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import httpx2

ROOT = Path(__file__).resolve().parent.parent.parent
CHROMIUM = os.environ.get("CHARLM_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
]
SECONDS_TO_START = 120


def no_browser() -> str | None:
    """Why no browser can look at the app here, in a sentence; None if one can."""
    if not CHROMIUM:
        return "There is no Chromium here, so what a browser does is left out."
    if importlib.util.find_spec("playwright") is None:
        return "Playwright is not installed (pip install playwright), so what a browser does is left out."
    return None


def http_client(url: str, timeout: float) -> httpx2.Client:
    """One that lets an idle connection go before the server does, after five seconds: whoever asks just then
    gets an error, where a browser would ask again."""
    return httpx2.Client(base_url=url, timeout=timeout, limits=httpx2.Limits(keepalive_expiry=1.0))


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextmanager
def serving(
    *arguments: str,
    port: int | None = None,
    cwd: Path = ROOT,
    before: Sequence[str] = (),
    log: BinaryIO | None = None,
    **environment: str,
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Runs Python with `arguments` that start a Gradio app: its address, once it answers, and its process.

    `before` is a command that runs the command which follows it, as `nice` does; `log` is where its errors
    are written. Raises `RuntimeError` if
    the app ends, or does not answer within `SECONDS_TO_START`.
    """
    port = port or free_port()
    settings = {"GRADIO_SERVER_PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False"}
    process = subprocess.Popen(
        [*before, sys.executable, *arguments],
        cwd=cwd,
        env=os.environ | settings | {"PYTHONUNBUFFERED": "1"} | environment,
        stdout=subprocess.DEVNULL,
        stderr=log,
    )
    url = f"http://127.0.0.1:{port}/"
    try:
        _wait_until_up(url, process)
        yield url, process
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait_until_up(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(url, timeout=60).read()
            return
        except OSError:
            if process.poll() is not None:
                raise RuntimeError(f"the app ended with {process.returncode}") from None
            time.sleep(0.05)
    raise RuntimeError(f"the app did not answer for {SECONDS_TO_START} s")
