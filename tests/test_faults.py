"""What happens when something breaks, done for real."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import string
import subprocess
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path

import httpx2 as httpx
import pytest
from conftest import TEXT
from gradio_client import Client
from gradio_client.exceptions import AppError

from charlm import checkpoints
from charlm.bench.serving import ROOT, serving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.thorough,
    pytest.mark.skipif(os.name == "nt", reason="Windows has no signals to send"),
]


def test_sigterm_ends_streams_and_training_at_once(tmp_path: Path):
    with serving("app.py", TMPDIR=str(tmp_path)) as (url, process):
        client = Client(url, verbose=False)
        training = client.submit("the cat sat. " * 500, steps=5000, api_name="/train")
        writing = client.submit("ROMEO:", max_new_chars=5000, api_name="/generate")
        while not training.outputs() or training.outputs()[-1]["state"] != "running":
            time.sleep(0.1)
        while not writing.outputs():
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=10)
    assert not list(tmp_path.glob("charlm-*"))


def test_what_a_killed_app_left_is_removed_at_the_next_start(tmp_path: Path):
    """And nothing of an app that is still there."""
    with serving("app.py", TMPDIR=str(tmp_path)) as (_, killed):
        (left,) = tmp_path.glob("charlm-*")
        killed.kill()
        killed.wait()
    assert left.exists()
    with serving("app.py", TMPDIR=str(tmp_path)), serving("app.py", TMPDIR=str(tmp_path)):
        assert not left.exists()
        assert len(list(tmp_path.glob("charlm-*"))) == 2


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="no prlimit here")
def test_with_few_file_descriptors_it_says_so_once_and_goes_on(tmp_path: Path):
    told = tmp_path / "told"
    with (
        told.open("wb") as log,
        serving("app.py", before=["prlimit", "--nofile=150:150"], log=log) as (url, process),
    ):
        address = urllib.parse.urlsplit(url)
        many = [socket.create_connection((address.hostname, address.port)) for _ in range(300)]
        time.sleep(3)
        client = Client(url, verbose=False)
        assert client.predict("hii", api_name="/encode") == [46, 47, 47]
        for connection in many:
            connection.close()
        assert process.poll() is None
    assert told.stat().st_size < 20_000


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="no prlimit here")
def test_on_a_full_disk_it_says_what_cannot_be_kept_and_goes_on(tmp_path: Path):
    """Files may have 5,000 bytes here: beyond, writing fails as on a full disk."""
    log = (tmp_path / "log").open("wb")
    with serving("app.py", before=["prlimit", "--fsize=5000"], log=log, TMPDIR=str(tmp_path)) as (url, _):
        for size, status in ((20_000, 507), (500, 200)):
            answer = httpx.post(f"{url}gradio_api/upload", files={"files": ("a.txt", b"a" * size)})
            assert answer.status_code == status
            assert status == 200 or "could not keep this file: File too large." in answer.json()["error"]
        client = Client(url, verbose=False)
        text = string.printable * 40
        for times, complaint in (
            (50, "Your text could not be kept on the server: File too large."),
            (1, "Cannot write model.safetensors: File too large."),
        ):
            with pytest.raises(AppError, match=complaint):
                told = client.predict(text * times, preset="bigram", steps=5, api_name="/train")
                raise AppError(told["error"])
        assert len(client.predict("ROMEO:", max_new_chars=20, api_name="/generate")) == 20


def test_a_temporary_folder_that_was_swept_is_made_anew(tmp_path: Path):
    with serving("app.py", TMPDIR=str(tmp_path)) as (url, _):
        answer = httpx.post(f"{url}gradio_api/upload", files={"files": ("a.txt", b"a")})
        (path,) = answer.json()
        assert Path(path).is_relative_to(tmp_path)
        for folder in tmp_path.iterdir():
            shutil.rmtree(folder)
        client = Client(url, verbose=False)
        told = client.predict(TEXT, preset="bigram", steps=5, api_name="/train")
        assert told["state"] == "done"
        assert client.predict("The", model=told["model"], max_new_chars=5, api_name="/generate")
        assert httpx.post(f"{url}gradio_api/upload", files={"files": ("a.txt", b"a")}).status_code == 200


def test_killed_while_saving_never_leaves_a_checkpoint_that_loads_wrongly(checkpoint: Path, tmp_path: Path):
    """A process writes one checkpoint over the other for ever; whenever it dies, one of them is whole
    or the pair is refused."""
    script = (
        "import sys, itertools, torch\n"
        "from pathlib import Path\n"
        "from charlm import checkpoints\n"
        "model = checkpoints.load(sys.argv[1])\n"
        "print('ready', flush=True)\n"
        "for i in itertools.count():\n"
        "    with torch.no_grad():\n"
        "        for p in model.parameters():\n"
        "            p.fill_(float(i))\n"
        "    checkpoints.save(model, {'i': i}, Path(sys.argv[2]))\n"
    )
    outcomes = []
    for i in range(3):
        folder = tmp_path / str(i)
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(checkpoint), str(folder)], stdout=subprocess.PIPE, cwd=ROOT
        )
        process.stdout.readline()
        while not (folder / checkpoints.CONFIG).exists():
            time.sleep(0.005)
        time.sleep(0.05 + 0.017 * i)
        process.kill()
        process.wait()
        try:
            model = checkpoints.load(folder)
        except checkpoints.CharlmError as error:
            outcomes.append(str(error))
            assert "belongs to another" in outcomes[-1]
        else:
            assert {p.flatten()[0].item() for p in model.parameters()} == {float(model.record["i"])}


@pytest.mark.parametrize("limit", [100, 3000])
def test_a_disk_that_fills_up_while_saving_leaves_the_old_checkpoint(
    limit: int, checkpoint: Path, tmp_path: Path
):
    """Beyond `limit` bytes of a file, every write of the process fails."""
    script = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from charlm import checkpoints\n"
        "model = checkpoints.load(sys.argv[1])\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)\n"
        "try:\n"
        "    checkpoints.save(model, {'new': True}, Path(sys.argv[2]))\n"
        "except checkpoints.CharlmError as error:\n"
        "    sys.exit(f'told: {error}')\n"
    )
    folder = tmp_path / "model"
    shutil.copytree(checkpoint, folder)
    result = subprocess.run(
        [sys.executable, "-c", script, str(checkpoint), str(folder), str(limit)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert "told: Cannot write" in result.stderr
    assert "new" not in checkpoints.load(folder).record
    assert sorted(p.name for p in folder.iterdir()) == [checkpoints.CONFIG, checkpoints.WEIGHTS]


def test_a_read_only_checkout_and_a_deleted_checkpoint(tmp_path: Path):
    """The app serves what it still has, and says what is gone."""
    checkout = tmp_path / "checkout"
    for name in ("charlm", "checkpoints"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "app.py", checkout)
    home = tmp_path / "home"
    home.mkdir()
    (checkout / "checkpoints" / "foreign").mkdir()
    (checkout / "checkpoints" / "foreign" / checkpoints.CONFIG).write_text('{"model_type": "llama"}')
    for path in (*checkout.rglob("*"), checkout, home):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        environment = {"HOME": str(home), "TMPDIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
        with serving("app.py", cwd=checkout, before=_as_somebody(), **environment) as (url, _):
            client = Client(url, verbose=False)
            assert len(client.predict("ROMEO:", max_new_chars=20, api_name="/generate")) == 20
            checkout.chmod(0o755)
            (checkout / "checkpoints").chmod(0o755)
            (checkout / "checkpoints" / "attention").chmod(0o755)
            shutil.rmtree(checkout / "checkpoints" / "attention")
            with pytest.raises(AppError, match="no such model, or it is not here any more"):
                client.predict("To be", "attention", 0, 0, api_name="/attention")
            names = {model["name"] for model in client.predict(api_name="/models")}
            assert {"gpt", "bigram"} <= names and not names & {"attention", "foreign"}
            assert len(client.predict("ROMEO:", max_new_chars=20, api_name="/generate")) == 20
    finally:
        for path in (checkout, *checkout.rglob("*")):
            path.chmod(0o755)


def _as_somebody() -> list[str]:
    """Root may write what is read-only: what makes a command one of a user without that right."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root may write everywhere, and there is no setpriv to give that up")
    return ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can be nobody")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="no setpriv here")
def test_nobody_without_a_home():
    with tempfile.TemporaryDirectory(prefix="nobody-") as temporary:
        os.chmod(temporary, 0o777)
        nobody = ["setpriv", "--reuid=65534", "--clear-groups"]
        with serving("app.py", before=nobody, HOME="/nonexistent", TMPDIR=temporary) as (url, _):
            assert Client(url, verbose=False).predict("hii", api_name="/encode") == [46, 47, 47]


def test_behind_a_proxy_and_on_all_addresses():
    """A proxy for what is elsewhere does not keep the app from its own page."""
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    proxies = {name: "http://127.0.0.1:9" for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy")}
    with serving("app.py", GRADIO_SERVER_NAME="[::]", **proxies) as (url, _):
        for host in ("127.0.0.1", "[::1]"):
            answer = httpx.get(url.replace("127.0.0.1", host) + "config", trust_env=False)
            assert answer.status_code == 200


COMPILE = """
import numpy as np
from charlm.engine import kernel
x = np.full((1, 4), 3, np.float32)
kernel.run(kernel.rms_norm, x, x)
print(x[0, 0])
"""


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="no prlimit here")
def test_on_a_full_disk_compiled_code_is_used_though_it_cannot_be_kept(tmp_path: Path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    command = ["prlimit", "--fsize=100", sys.executable, "-c", COMPILE]
    told = subprocess.run(command, stdout=subprocess.PIPE, cwd=ROOT, env=environment)
    assert float(told.stdout) == pytest.approx(1.0)


def test_three_starts_share_a_cache(tmp_path: Path):
    """Of compiled code, which none of them finds there."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    started = [
        subprocess.Popen([sys.executable, "-c", COMPILE], stdout=subprocess.PIPE, cwd=ROOT, env=environment)
        for _ in range(3)
    ]
    assert [float(process.communicate()[0]) for process in started] == pytest.approx([1.0] * 3)
    assert list(tmp_path.rglob("*.nbi"))


def test_a_clock_that_is_set_back(tmp_path: Path):
    """A process whose clock jumps back a day at every look trains, saves and writes as ever."""
    (tmp_path / "sitecustomize.py").write_text(
        "import itertools, time\n"
        "now, back = time.time, itertools.count()\n"
        "time.time = lambda: now() - 86_400 * next(back)\n"
    )
    (tmp_path / "text.txt").write_text("the cat sat on the mat. " * 200)
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = ["train", "bigram", "--data", "text.txt", "--steps", "20", "--out", "model", "--json"]
    result = subprocess.run(
        [sys.executable, "-m", "charlm", *command],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert 0 < json.loads(result.stdout)["seconds"] < 60
    assert checkpoints.load(tmp_path / "model").record["options"]["steps"] == 20


def test_a_full_disk_is_told(checkpoint: Path):
    """/dev/full fails as a full disk does."""
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    command = [sys.executable, "-m", "charlm", "sample", str(checkpoint), "--max-new-chars", "5"]
    with open("/dev/full", "w") as full:
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert result.returncode == 1
    assert "No space left on device" in result.stderr
    assert "Traceback" not in result.stderr
