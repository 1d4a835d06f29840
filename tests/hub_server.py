"""A local server that speaks the Hub's HTTP API, as far as charlm calls it, on a folder of its own.

Import it before huggingface_hub, which is pointed at it by `HF_ENDPOINT`. `faults` are pairs of a
pattern and what befalls the requests whose path has it: a status, "drop" (no answer at all) or "cut"
(the connection ends in the middle of the file).
"""

from __future__ import annotations

import atexit
import base64
import hashlib
import json
import os
import re
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_" + "x" * 34


@dataclass
class Repo:
    """One repository: files by path for each commit, branches and tags by name."""

    kind: str
    private: bool = False
    gated: bool = False
    settings: dict[str, object] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, changes: dict[str, bytes | None]) -> str:
        files = dict(self.commits.get(self.refs.get("main", ""), {}))
        for path, data in changes.items():
            files.pop(path, None)
            if data is not None:
                files[path] = data
        sha = hashlib.sha1(repr((len(self.commits), sorted(files.items()))).encode()).hexdigest()
        self.commits[sha] = files
        self.refs["main"] = sha
        return sha


class HubServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.faults: list[tuple[str, int | str]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serving() -> Iterator[HubServer]:
    """The server, empty and without faults, answering."""
    for stored in (SERVER.repos, SERVER.objects, SERVER.faults):
        stored.clear()
    threading.Thread(target=SERVER.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield SERVER
    finally:
        SERVER.shutdown()


class Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def _answer(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        for fault in self.server.faults:
            pattern, what = fault
            if re.search(pattern, path) and isinstance(what, int):
                return self._send(what, {"error": "a fault"})
            if re.search(pattern, path) and what == "drop":
                return self._hang_up()
        authorized = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if self.command == "POST" and not authorized:
            return self._send(401, {"error": "Invalid username or password."})
        for pattern, handle in ROUTES:
            match = re.fullmatch(pattern, path)
            if match:
                return handle(self, authorized, **match.groupdict())
        return self._send(404, {"error": f"no route {self.command} {path}"})

    def _send(self, status: int, data: object, **headers: str) -> None:
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            cut = any(re.search(p, self.path) and what == "cut" for p, what in self.server.faults)
            self.wfile.write(body[: len(body) // 2] if cut else body)
            if cut:
                self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    def _repo(self, name: str, authorized: bool) -> Repo | None:
        repo = self.server.repos.get(name)
        if repo is None or (repo.private and not authorized):
            self._send(
                404 if authorized else 401, {"error": "Repository not found"}, X_Error_Code="RepoNotFound"
            )
            return None
        if repo.gated and not authorized:
            self._send(401, {"error": "gated"}, X_Error_Code="GatedRepo")
            return None
        return repo

    def _files(self, repo: Repo, revision: str) -> tuple[str, dict[str, bytes]] | None:
        sha = repo.refs.get(revision, revision)
        if sha not in repo.commits:
            self._send(404, {"error": "no such revision"}, X_Error_Code="RevisionNotFound")
            return None
        return sha, repo.commits[sha]

    def create(self, authorized: bool) -> None:
        asked = json.loads(self.body)
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.server.repos:
            return self._send(409, {"error": "exists", "url": f"{self.server.url}/{name}"})
        repo = self.server.repos[name] = Repo(asked.get("type", "model"), settings=asked)
        repo.private = asked.get("visibility") == "private" or asked.get("private") is True
        repo.commit({})
        prefix = "spaces/" if repo.kind == "space" else ""
        return self._send(200, {"url": f"{self.server.url}/{prefix}{name}", "id": name})

    def validate(self, authorized: bool) -> None:
        self._send(200, {"errors": [], "warnings": []})

    def preupload(self, authorized: bool, kind: str, name: str, revision: str) -> None:
        if self._repo(name, authorized):
            files = [
                {
                    "path": f["path"],
                    "uploadMode": "lfs" if f["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for f in json.loads(self.body)["files"]
            ]
            self._send(200, {"files": files})

    def lfs(self, authorized: bool, name: str) -> None:
        objects = [
            {**o, "actions": {"upload": {"href": f"{self.server.url}/lfs/{o['oid']}"}}}
            for o in json.loads(self.body)["objects"]
        ]
        self._send(200, {"transfer": "basic", "objects": objects})

    def store(self, authorized: bool, oid: str) -> None:
        assert hashlib.sha256(self.body).hexdigest() == oid
        self.server.objects[oid] = self.body
        self._send(200, {})

    def commit(self, authorized: bool, kind: str, name: str, revision: str) -> None:
        repo = self._repo(name, authorized)
        if repo is None:
            return
        changes: dict[str, bytes | None] = {}
        for line in self.body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                changes[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                changes[value["path"]] = self.server.objects[value["oid"]]
            elif item["key"] == "deletedFile":
                changes[value["path"]] = None
        sha = repo.commit(changes)
        self._send(200, {"commitUrl": f"{self.server.url}/{name}/commit/{sha}", "commitOid": sha})

    def info(self, authorized: bool, kind: str, name: str, revision: str | None = None) -> None:
        repo = self._repo(name, authorized)
        found = repo and self._files(repo, revision or "main")
        if found:
            siblings = [{"rfilename": path, "size": len(data)} for path, data in found[1].items()]
            self._send(200, {"id": name, "modelId": name, "sha": found[0], "siblings": siblings})

    def tree(self, authorized: bool, kind: str, name: str, revision: str) -> None:
        repo = self._repo(name, authorized)
        found = repo and self._files(repo, revision)
        if found:
            self._send(
                200,
                [
                    {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for path, data in found[1].items()
                ],
            )

    def resolve(self, authorized: bool, name: str, revision: str, path: str) -> None:
        repo = self._repo(name, authorized)
        found = repo and self._files(repo, revision)
        if not found:
            return
        sha, files = found
        if path not in files:
            return self._send(404, {"error": "no such file"}, X_Error_Code="EntryNotFound")
        etag = hashlib.sha1(files[path]).hexdigest()
        self._send(200, files[path], ETag=f'"{etag}"', X_Repo_Commit=sha)


NAME = r"(?P<name>[^/]+/[^/]+)"
ROUTES = [
    (r"/api/repos/create", Handler.create),
    (r"/api/validate-yaml", Handler.validate),
    (rf"/api/(?P<kind>\w+)s/{NAME}/preupload/(?P<revision>.+)", Handler.preupload),
    (rf"/api/(?P<kind>\w+)s/{NAME}/commit/(?P<revision>.+)", Handler.commit),
    (rf"/api/(?P<kind>\w+)s/{NAME}/tree/(?P<revision>[^/]+)/?", Handler.tree),
    (rf"/api/(?P<kind>\w+)s/{NAME}/revision/(?P<revision>.+)", Handler.info),
    (rf"/api/(?P<kind>\w+)s/{NAME}", Handler.info),
    (rf"(?:/spaces)?/{NAME}\.git/info/lfs/objects/batch", Handler.lfs),
    (r"/lfs/(?P<oid>\w+)", Handler.store),
    (rf"(?:/spaces)?/{NAME}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", Handler.resolve),
]

SERVER = HubServer()
HOME = tempfile.mkdtemp(prefix="charlm-hf-")
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
os.environ |= {
    "HF_ENDPOINT": SERVER.url,
    "HF_HOME": HOME,
    "HF_HUB_DISABLE_XET": "1",  # Large files travel by LFS: Xet is a protocol of its own.
}
os.environ.pop("HF_TOKEN", None)
