"""Two replicas behind nginx, with the README's configuration."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2 as httpx
import pytest
from conftest import wait_for

from charlm.bench.serving import ROOT, free_port, serving

NGINX = shutil.which("nginx")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.thorough,
    pytest.mark.skipif(NGINX is None, reason="no nginx on this machine"),
]
HOST = {"Host": "class.example"}
ASKED = {
    "prompt": "ROMEO:",
    "model": "bigram",
    "temperature": 1,
    "top_k": 0,
    "top_p": 1,
    "length": 50,
    "seed": 1,
}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The proxy's, which listens on another port than in the README, as do the replicas."""
    folder = tmp_path_factory.mktemp("nginx")
    (configuration,) = re.findall(r"```nginx\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    ports = {name: free_port() for name in ("7861", "7862", "8080")}
    for name, port in ports.items():
        configuration = configuration.replace(name, str(port))
    configuration = configuration.replace("http {", f"http {{ access_log off; {_temporary(folder)}", 1)
    (folder / "nginx.conf").write_text(f"pid {folder}/pid; error_log {folder}/errors;\n{configuration}")
    with (
        serving("app.py", port=ports["7861"], CHARLM_HOSTS="class.example"),
        serving("app.py", port=ports["7862"], CHARLM_HOSTS="class.example"),
    ):
        command = [NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        url = f"http://127.0.0.1:{ports['8080']}"
        wait_for(lambda: (folder / "pid").exists())
        yield url
        process.terminate()
        process.wait(30)


def _temporary(folder: Path) -> str:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)


@contextmanager
def visit(address: str) -> Iterator[httpx.Client]:
    """A browser's, that keeps its cookies; the page has been opened in it."""
    with httpx.Client(base_url=address, headers=HOST, timeout=60) as client:
        assert client.get("/").status_code == 200
        yield client


def replica(client: httpx.Client) -> str:
    """Each process of the app names itself anew."""
    return client.get("/config").json()["app_id"]


def test_everybody_stays_with_one_of_both_replicas(address: str):
    places = []
    for _ in range(12):
        with visit(address) as client:
            seen = {replica(client) for _ in range(5)}
        assert len(seen) == 1
        places += seen
    assert len(set(places)) == 2


def test_texts_stream_through(address: str):
    """In pieces, as they are written."""
    with (
        visit(address) as client,
        client.stream("POST", "/generate/write", json=ASKED | {"length": 500}) as answer,
    ):
        pieces = list(answer.iter_raw())
    assert answer.status_code == 200
    assert len(pieces) > 2


def test_the_visitors_own_address_is_believed_of_the_proxy(address: str):
    """Links to itself are made with the name by which the browser came."""
    with visit(address) as client:
        assert client.get("/config").json()["root"] == "http://class.example"
