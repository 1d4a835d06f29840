"""What a stranger may do to an app that was left open, over HTTP: each of these once ended or locked it."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from charlm import checkpoints
from charlm.bench.load import megabytes
from charlm.bench.serving import serving
from charlm.models import build
from charlm.tokenizer import CharTokenizer

pytestmark = pytest.mark.slow

LOOPBACK_IS_PUBLIC = """
import ipaddress
ipaddress.IPv4Address.is_private = ipaddress.IPv4Address.is_loopback = False
from charlm.ui import connections, guard, uploads
connections.HEADER_SECONDS, guard.SECONDS_A_PIECE, guard.SECONDS_A_CALL = 6, 2, 4
uploads.MAX_CLIENT_FILES, uploads.MAX_FILES = 20, 30
from charlm.service import limits
limits.MAX_OWN_BYTES = 1_000_000
from charlm.cli import main
main(["app"])
"""
"""The app, for which this machine is a stranger's, and whose patience is short."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the app keeps what it is sent."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module")
def app(folder: Path) -> Iterator[tuple[str, int]]:
    with serving("-c", LOOPBACK_IS_PUBLIC, TMPDIR=str(folder)) as (url, process):
        yield url, process.pid


@pytest.fixture(scope="module")
def url(app: tuple[str, int]) -> str:
    return app[0]


@pytest.fixture
def elsewhere() -> Iterator[tuple[str, list[str]]]:
    """An address elsewhere, and what was asked for there."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"a" * 1000)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/big.bin", asked
    server.shutdown()


def client(url: str, address: str = "127.0.0.1") -> httpx.Client:
    """A client at a network address of its own."""
    transport = httpx.HTTPTransport(local_address=address)
    return httpx.Client(base_url=url, transport=transport, timeout=30)


def works(url: str) -> bool:
    """Whether somebody else is still served."""
    with client(url, "127.0.0.9") as other:
        event = other.post("gradio_api/call/encode", json={"data": ["hii", "gpt"]}).json()["event_id"]
        return "[46, 47, 47]" in other.get(f"gradio_api/call/encode/{event}").text


@pytest.mark.thorough
def test_no_address_is_opened(url: str, elsewhere: tuple[str, list[str]]):
    address, asked = elsewhere
    http = client(url)
    config = http.get("config").json()
    file = {"path": address, "url": address, "meta": {"_type": "gradio.FileData"}}
    for dependency in config["dependencies"]:
        data = [file, [{"image": file}]] * len(dependency["inputs"])
        data = data[: len(dependency["inputs"])]
        body = {"data": data, "fn_index": dependency["id"], "session_hash": f"s{dependency['id']}"}
        _ask(http, "gradio_api/queue/join", body)
        _ask(http, "gradio_api/run/predict", body)
        _ask(http, f"gradio_api/call/{dependency['api_name']}", {"data": data})
        named = {parameter: file for parameter in ("text", "model", "ids", "prompt")}
        _ask(http, f"gradio_api/call/v2/{dependency['api_name']}", named)
        call = {"name": "charlm_encode", "arguments": named}
        request = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
        _ask(http, "gradio_api/mcp/", request, Accept="application/json, text/event-stream")
    assert asked == []
    assert works(url)


def _ask(http: httpx.Client, path: str, body: dict[str, Any], **headers: str) -> None:
    answer = http.post(path, json=body, headers=headers)
    if "event_id" in answer.text and "session_hash" in body:
        with contextlib.suppress(httpx.HTTPError):
            http.get("gradio_api/queue/data", params={"session_hash": body["session_hash"]}, timeout=5)


@pytest.mark.parametrize("name", ["queue/join", "run/predict"])
def test_a_file_that_was_not_uploaded_is_not_read(name: str, url: str):
    file = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
    for path in (file, file | {"path": "../app.py"}, file | {"path": 1}):
        body = {"data": [path], "fn_index": 0, "session_hash": "s"}
        answer = client(url).post(f"gradio_api/{name}", json=body)
        assert answer.status_code == 400
        assert "was not uploaded here" in answer.json()["error"]


UNFINISHED = {
    "nothing": b"",
    "half a head": b"GET / HTTP/1.1\r\nHost: localhost\r\nX-a: ",
    "a call without its last byte": b"POST /gradio_api/queue/join HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/json\r\nContent-Length: 20\r\n\r\n" + b"{" * 19,
    "an upload without its last byte": b"POST /gradio_api/upload HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 99\r\n\r\n--b\r\n",
}


@pytest.mark.thorough
def test_requests_that_never_end_are_not_waited_for(url: str):
    waiting = [_connected(url) for _ in UNFINISHED]
    for connection, sent in zip(waiting, UNFINISHED.values(), strict=True):
        connection.sendall(sent)
    for connection, sent in zip(waiting, UNFINISHED.values(), strict=True):
        connection.settimeout(15)
        told = b""
        with connection, contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(10_000):
                told += piece
        assert not sent.startswith(b"POST") or told.startswith(b"HTTP/1.1 408")


def test_a_request_whose_bytes_drip_is_not_waited_for(url: str):
    with _connected(url) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(UNFINISHED["a call without its last byte"][:-15])
        began = time.monotonic()
        for _ in range(15):
            time.sleep(0.9)
            connection.sendall(b"{")
            connection.settimeout(0.1)
            with contextlib.suppress(TimeoutError):
                assert connection.recv(100).startswith(b"HTTP/1.1 408")
                break
        assert time.monotonic() - began < 10


def _connected(url: str) -> socket.socket:
    address = urllib.parse.urlsplit(url)
    return socket.create_connection((address.hostname, address.port))


CLOSED = """
POST gradio_api/process_recording
GET monitoring
GET monitoring/summary
GET gradio_api/dev/reload
POST gradio_api/vibe-edit
POST gradio_api/stream/x
POST login
GET gradio_api/proxy=http://a/
POST gradio_api/run-history/connect
GET gradio_api/deep_link
PUT config
GET docs
"""


@pytest.mark.parametrize("route", CLOSED.strip().splitlines())
def test_routes_that_nobody_needs_are_closed(route: str, url: str):
    method, path = route.split()
    answer = client(url).request(method, path, content=b"")
    assert answer.status_code == 404
    assert answer.json()["error"] == "There is nothing here."


def parts(*names: str) -> list[tuple[str, tuple[str, bytes]]]:
    return [("files", (name, name.encode())) for name in names]


def test_one_request_brings_few_files(url: str):
    with client(url) as http:
        answer = http.post("gradio_api/upload", files=parts(*(f"{i}.txt" for i in range(1000))))
        assert answer.status_code == 413
        assert "may bring 10 files" in answer.json()["error"]
        assert http.post("gradio_api/upload", files=parts("a.txt", "b.txt")).status_code == 200


def test_one_client_cannot_fill_the_place_for_uploads(url: str):
    """Neither alone nor with many addresses."""
    with client(url, "127.0.0.4") as other:
        mine = other.post("gradio_api/upload", files=parts("mine"))
        told = [client(url, "127.0.0.3").post("gradio_api/upload", files=parts(f"a{i}")) for i in range(21)]
        assert [answer.status_code for answer in told] == [200] * 20 + [507]
        assert "half an hour" in told[-1].json()["error"]
        for i in range(15):
            others = client(url, f"127.0.0.{10 + i}").post(
                "gradio_api/upload", files=parts(f"{i}-x", f"{i}-y")
            )
            assert others.status_code == 200
        (path,) = mine.json()
        # The greediest lost theirs first, though they were not the oldest.
        assert other.get(f"gradio_api/file={path}").text == "mine"
        assert other.get(f"gradio_api/file={told[0].json()[0]}").status_code >= 400


@pytest.mark.thorough
def test_pages_and_names_from_elsewhere_are_refused_on_localhost(url: str):
    """As DNS rebinding and a form on another site would ask."""
    with serving("app.py", CHARLM_HOSTS="charlm.example") as (here, _):
        host = urllib.parse.urlsplit(here).netloc
        for headers, status in (
            ({"Host": "evil.example"}, 403),
            ({"Host": "127.0.0.1.evil.example"}, 403),
            ({"Origin": "https://evil.example"}, 403),
            ({"Origin": "null"}, 403),
            ({"Host": "localhost:1"}, 200),
            ({"Host": "charlm.example"}, 200),
            ({"Origin": f"http://{host}"}, 200),
            ({"Origin": "https://charlm.example"}, 200),
        ):
            answer = client(here).get("config", headers=headers)
            assert answer.status_code == status, headers
            assert status == 200 or "error" in answer.json()


class Visitor:
    """Somebody who opens the page, and calls its private functions by their numbers."""

    def __init__(self, url: str, address: str):
        self.http = client(url, address)
        config = self.http.get("config").json()
        self.ids = {c["props"].get("elem_id"): c["id"] for c in config["components"]}
        self.dependencies = config["dependencies"]
        browser_states = [c["id"] for c in config["components"] if c["type"] == "browserstate"]
        welcome = next(d for d in self.dependencies if d["inputs"] == d["outputs"][:1] == browser_states[:1])
        self.welcome = welcome["id"]
        (self.id, _) = self.call(self.welcome, [""])

    def call(self, number: int, data: list[Any]) -> list[Any]:
        body = {"data": data, "fn_index": number, "session_hash": "s"}
        answer = self.http.post("gradio_api/run/predict", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def bring(self, name: str, data: bytes) -> list[Any]:
        """What the page says of an uploaded model."""
        uploaded = self.http.post("gradio_api/upload", files=[("files", (name, data))])
        assert uploaded.status_code == 200, uploaded.text
        number = next(d["id"] for d in self.dependencies if self.ids["train-bring"] in d["inputs"])
        file = {"path": uploaded.json()[0], "meta": {"_type": "gradio.FileData"}}
        return self.call(number, [self.id, file])


def zipped(folder: Path, **sizes: int) -> bytes:
    """A model of zeros, which is much smaller as a zip file."""
    model = build("gpt", CharTokenizer("ab"), sizes, seed=1)
    for weights in model.parameters():
        weights.data.zero_()
    checkpoints.save(model, {}, folder / "model")
    checkpoints.pack(folder / "model", folder / "model.zip")
    return (folder / "model.zip").read_bytes()


@pytest.mark.thorough
def test_small_zips_do_not_become_many_large_models(app: tuple[str, int], folder: Path, tmp_path: Path):
    """Each of an invented visitor. Nobody else's model in use is lost."""
    url, pid = app
    small = zipped(tmp_path, block_size=64, n_layer=2, n_head=2, n_embd=64)
    large = sum(path.stat().st_size for path in (tmp_path / "model").iterdir())
    assert large > 10 * len(small)
    ann = Visitor(url, "127.0.0.5")
    _, models = ann.bring("mine.zip", small)
    (name,) = models
    before = megabytes(pid)
    for i in range(40):
        event = ann.http.post("gradio_api/call/encode", json={"data": ["a", name]}).json()["event_id"]
        assert "[0]" in ann.http.get(f"gradio_api/call/encode/{event}").text
        notes, _ = Visitor(url, f"127.0.1.{i}").bring(f"{i}.zip", small)
        assert "The model is here" in notes[0]
        assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 2_000_000
    assert megabytes(pid) < before + 60


def test_an_oversized_model_is_refused_unread(app: tuple[str, int], tmp_path: Path):
    """Its 200 kB would become 200 MB."""
    url, pid = app
    huge = zipped(tmp_path, block_size=256, n_layer=16, n_head=8, n_embd=704)
    assert len(huge) < 300_000
    visitor = Visitor(url, "127.0.0.6")
    before = megabytes(pid)
    notes, _ = visitor.bring("huge.zip", huge)
    assert "n_layer must be from 1 to 8" in notes[0]
    assert megabytes(pid) < before + 20


def test_an_id_that_was_not_made_here_is_nobodys(app: tuple[str, int]):
    url, pid = app
    visitor = Visitor(url, "127.0.0.7")
    before = megabytes(pid)
    for i in range(20):
        told, _ = visitor.call(visitor.welcome, [chr(97 + i) * 1_000_000])
        assert len(told) == 64
    assert megabytes(pid) < before + 30


@pytest.mark.thorough
def test_one_client_cannot_take_all_writing_places(url: str):
    """Beside two hundred greedy writers a newcomer's text is written."""
    with client(url, "127.0.0.20") as greedy, client(url, "127.0.0.21") as other:
        asked = {"data": ["ROMEO:", "gpt", 0.8, 0, 1.0, 5000, 1]}
        for _ in range(200):
            assert greedy.post("gradio_api/call/generate", json=asked).status_code == 200
        asked = {"data": ["JULIET:", "gpt", 0.8, 0, 1.0, 20, 1]}
        event = other.post("gradio_api/call/generate", json=asked).json()["event_id"]
        assert "event: complete" in other.get(f"gradio_api/call/generate/{event}").text


@pytest.mark.thorough
def test_one_client_cannot_lock_the_line_for_training(url: str):
    asked = {"data": ["the cat sat. " * 500, "small", "greedy", 5000]}
    with client(url, "127.0.0.22") as greedy:
        for _ in range(25):
            assert greedy.post("gradio_api/call/train", json=asked).status_code == 200
        with client(url, "127.0.0.23") as other:
            asked = {"data": ["the cat sat. " * 500, "bigram", "mine", 5]}
            event = other.post("gradio_api/call/train", json=asked).json()["event_id"]
            with other.stream("GET", f"gradio_api/call/train/{event}") as lines:
                told = next(line for line in lines.iter_lines() if line.startswith("data: "))
            assert json.loads(told.removeprefix("data: "))[0]["place"] <= 2
