"""What the server gives to whom: its own files and nothing else, to each visitor only his own."""

from __future__ import annotations

import http.client
import json
import shutil
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from charlm.bench.serving import ROOT
from charlm.service.limits import MAX_CALL_BYTES, MAX_FILE_BYTES
from charlm.ui.api import endpoints
from charlm.ui.guard import HEADERS

pytestmark = pytest.mark.slow

SECRET = "what no visitor may read"


def fetch(address: str, data: bytes | None = None, kind: str = "") -> tuple[int, bytes]:
    request = urllib.request.Request(address, data, {"Content-Type": kind} if kind else {})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def upload(url: str, name: str, data: bytes) -> tuple[int, bytes]:
    body = (
        f'--b\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
        + data
        + b"\r\n--b--\r\n"
    )
    return fetch(f"{url}gradio_api/upload", body, "multipart/form-data; boundary=b")


@pytest.mark.parametrize("route", ["gradio_api/file=", "file=", "gradio_api/stream/", "static/", "assets/"])
def test_no_file_can_be_fetched(route: str, url: str, tmp_path: Path):
    secret = tmp_path / "secret.txt"
    secret.write_text(SECRET)
    inside = [ROOT / name for name in ("app.py", "checkpoints/gpt/config.json", "charlm/hub.py")]
    ways = ["/etc/passwd", "../../../../../../etc/passwd", "..%2f..%2f..%2f..%2fetc%2fpasswd", "//etc/passwd"]
    ways += [str(secret), *map(str, inside), "app.py", "checkpoints/gpt/config.json", ".git/config"]
    ways += [f"file://{secret}", "http://127.0.0.1:1/"]
    for way in ways:
        status, body = fetch(url + route + urllib.parse.quote(way, safe="/%:"))
        assert status >= 400, way
        for text in (SECRET, "root:", "demo.launch", "weights_sha256", "huggingface_hub", "[core]"):
            assert text.encode() not in body, way


@pytest.mark.parametrize(
    "nonsense",
    [
        None,
        *(pytest.param(each, marks=pytest.mark.thorough) for each in ("<script>", -1, 1e308, [], {"a": 1})),
    ],
    ids=repr,
)
def test_the_events_of_the_page_outlive_a_scanner(nonsense: Any, url: str):
    """They are private, but their numbers can be guessed."""
    config = json.loads(fetch(f"{url}config")[1])
    numbers = {dependency["id"]: len(dependency["inputs"]) for dependency in config["dependencies"]}
    for number, inputs in (numbers | {9999: 1, -1: 1}).items():
        body = {"data": [nonsense] * inputs, "fn_index": number, "session_hash": f"scanner-{number}"}
        status, told = fetch(f"{url}gradio_api/queue/join", json.dumps(body).encode(), "application/json")
        if number in numbers:
            assert status == 200
            status, told = fetch(f"{url}gradio_api/queue/data?session_hash=scanner-{number}")
            assert status == 200
            assert b"process_completed" in told
        else:
            assert status == 400
        assert b"Traceback" not in told
    assert Client(url, verbose=False).predict("hii", api_name="/encode") == [46, 47, 47]


def test_what_is_sent_is_limited_in_size(url: str):
    status, _ = upload(url, "large.txt", b"a" * (MAX_FILE_BYTES + 1))
    assert status == 413
    # A call is kept for a while, and has to be smaller.
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=30)
    connection.request("POST", "/gradio_api/run/predict", headers={"Content-Length": str(MAX_CALL_BYTES + 1)})
    response = connection.getresponse()
    told = json.loads(response.read())
    assert response.status == 413
    assert (
        told["error"]
        == told["detail"]
        == ("A call may have 1,500,000 bytes: the page takes a longer text as a file.")
    )
    # What is announced as larger still is refused before it is sent.
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=30)
    for route in ("upload", "call/encode", "queue/join", "run/encode", "cancel"):
        connection.request("POST", f"/gradio_api/{route}", headers={"Content-Length": "99999999999"})
        assert connection.getresponse().status == 413
        connection.close()
    status, body = upload(url, "small.txt", b"a" * 1000)
    assert status == 200
    # The route that the other test tries does give what was uploaded through it.
    assert fetch(f"{url}gradio_api/file={json.loads(body)[0]}") == (200, b"a" * 1000)


def test_bodies_in_chunks_are_taken_up_to_the_same_sizes(url: str):
    """As some proxies send them on."""
    call = json.dumps({"data": ["hii", "gpt"]}).encode()
    upload = httpx.Request("POST", url, files={"files": ("a.txt", b"a" * 1000)})
    form = upload.headers["content-type"]
    for path, kind, body, status in (
        ("call/encode", "application/json", call, 200),
        ("upload", form, upload.read(), 200),
        ("call/encode", "application/json", call + b" " * MAX_CALL_BYTES, 413),
        ("upload", form, upload.read().replace(b"a" * 1000, b"a" * (MAX_FILE_BYTES + 200_000)), 413),
    ):
        pieces = (body[i : i + 65_536] for i in range(0, len(body), 65_536))
        answer = httpx.post(f"{url}gradio_api/{path}", content=pieces, headers={"Content-Type": kind})
        assert answer.request.headers["transfer-encoding"] == "chunked"
        assert answer.status_code == status, answer.text


def test_headers(url: str):
    for path in ("", "config", "gradio_api/info", "nothing"):
        try:
            response = urllib.request.urlopen(url + path, timeout=30)
        except urllib.error.HTTPError as error:
            response = error
        assert {name: response.headers.get(name) for name in HEADERS} == HEADERS


def test_an_upload_stays_in_its_folder(url: str):
    status, body = upload(url, "../../../../evil.txt", b"evil")
    assert status == 200
    (landed,) = map(Path, json.loads(body))
    assert landed.name == "evil.txt" and ".." not in landed.parts
    assert landed.read_bytes() == b"evil"
    # Each step up from there is where it would have landed otherwise.
    assert not [folder for folder in landed.parent.parents if (folder / "evil.txt").exists()]


def test_what_other_programs_leave_does_not_count(url: str):
    """The folder that all Gradio apps of a machine share is full of somebody else's files."""
    shared = Path(tempfile.gettempdir()) / "gradio" / "somebody-else"
    shared.mkdir(parents=True)
    try:
        for i in range(2_000):
            (shared / str(i)).touch()
        status, body = upload(url, "small.txt", b"a")
        assert status == 200, body
        assert shared.parent not in Path(json.loads(body)[0]).parents
    finally:
        shutil.rmtree(shared)


@pytest.mark.thorough
def test_a_visitor_cannot_name_the_model_of_another(url: str):
    ann, bob = (Client(url, verbose=False) for _ in range(2))
    text = "the cat sat on the mat. " * 200
    trained = ann.predict(text, preset="bigram", steps=10, api_name="/train")["model"]
    assert len(trained) >= 20
    assert trained not in [model["name"] for model in bob.predict(api_name="/models")]
    for guess in (trained[:-1], trained[:-1] + "_", "*", ""):
        with pytest.raises(AppError, match="no such model"):
            bob.predict("the", model=guess, api_name="/generate")


def test_a_page_elsewhere_cannot_call(url: str):
    """Gradio lets a page on the same machine call an app on localhost, and no other."""
    _, _ = fetch(url)
    headers = {"Origin": "https://evil.example", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}config", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            assert response.headers.get("Access-Control-Allow-Origin") != "https://evil.example"
    except urllib.error.HTTPError as error:
        assert error.code in (400, 403)


def test_only_what_programs_need_is_on_the_api_page(url: str):
    named = Client(url, verbose=False).view_api(return_format="dict")["named_endpoints"]
    assert {name.strip("/") for name in named} == set(endpoints())


def test_the_page_is_compressed_and_a_text_is_not_held_back(url: str):
    gzip = {"Accept-Encoding": "gzip"}
    for path in ("", "config"):
        with httpx.stream("GET", f"{url}{path}", headers=gzip) as answer:
            sent = sum(map(len, answer.iter_raw()))
        assert answer.headers["Content-Encoding"] == "gzip"
        assert sent < len(httpx.get(f"{url}{path}", headers={"Accept-Encoding": "identity"}).content) / 3
    asked = {"prompt": "A", "model": "gpt", "temperature": 1.0, "top_k": 0, "top_p": 1.0}
    with httpx.stream(
        "POST", f"{url}generate/write", json=asked | {"length": 5, "seed": 1}, headers=gzip
    ) as answer:
        assert "Content-Encoding" not in answer.headers and len(list(answer.iter_lines())) >= 3
