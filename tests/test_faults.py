"""What happens when something breaks, done for real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import browser
import pytest
from gradio_client import Client

from charlm import checkpoints

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no signals to send")
ROOT = Path(__file__).resolve().parent.parent


def test_sigterm_ends_streams_and_training_at_once(tmp_path: Path):
    environment = os.environ | {"TMPDIR": str(tmp_path), "GRADIO_SERVER_PORT": str(browser.free_port())}
    process = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environment)
    url = f"http://127.0.0.1:{environment['GRADIO_SERVER_PORT']}/"
    browser.wait_until_up(url, process)
    client = Client(url, verbose=False)
    training = client.submit("the cat sat. " * 500, steps=5000, api_name="/train")
    writing = client.submit("ROMEO:", max_new_chars=5000, api_name="/generate")
    while not training.outputs() or training.outputs()[-1]["state"] != "running":
        time.sleep(0.1)
    while not writing.outputs():
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    start = time.monotonic()
    process.wait(timeout=10)
    assert time.monotonic() - start < 10
    assert not list(tmp_path.glob("charlm-*"))


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
