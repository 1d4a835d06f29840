"""The project as others install it: a wheel that holds the trained models and the whole page."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from gradio_client import Client

from charlm.bench.serving import ROOT, serving

pytestmark = [pytest.mark.slow, pytest.mark.thorough]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with charlm in it, built from what git would clone, and nothing else."""
    work = tmp_path_factory.mktemp("wheel")
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in files.splitlines():
        if (ROOT / name).is_file():
            (work / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, work / "source" / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-index"]
    build = [*pip, "wheel", *offline, "--no-build-isolation", "--wheel-dir", str(work), str(work / "source")]
    subprocess.run(build, check=True)
    (wheel,) = work.glob("*.whl")
    target = work / "installed"
    subprocess.run([*pip, "install", *offline, "--target", str(target), str(wheel)], check=True)
    return target


def run(installed: Path, *command: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(installed)}
    result = subprocess.run(command, cwd=installed.parent, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_trained_models_come_with_it(installed: Path):
    code = "import charlm; print(charlm.__file__, charlm.load('gpt').parameter_count())"
    assert run(installed, sys.executable, "-c", code).split() == [
        str(installed / "charlm" / "__init__.py"),
        "4751896",
    ]


def test_what_is_known_of_their_heads_comes_with_it(installed: Path):
    code = "from charlm.surgery.heads import load_heads; print(load_heads('gpt').excerpt.block_size)"
    assert run(installed, sys.executable, "-c", code) == "256\n"


def test_the_ladder_comes_with_it(installed: Path):
    code = "from charlm.training.ladder import load_ladder; print(load_ladder()[-1].name)"
    assert run(installed, sys.executable, "-c", code) == "gpt\n"


def test_the_console_command(installed: Path):
    command = [str(installed / "bin" / "charlm"), "sample", "bigram", "--max-new-chars", "9", "--seed", "1"]
    assert len(run(installed, sys.executable, *command).strip("\n")) >= 5


def test_the_app_starts_and_trains(installed: Path):
    with serving("-m", "charlm", "app", cwd=installed.parent, PYTHONPATH=str(installed)) as (url, _):
        client = Client(url, verbose=False)
        names = [model["name"] for model in client.predict(api_name="/models")]
        assert names[:3] == ["gpt", "attention", "bigram"] and "one-head" in names
        assert len(client.predict("ROMEO:", max_new_chars=20, api_name="/generate")) == 20
        text = "the cat sat on the mat. " * 200
        trained = client.predict(text, preset="bigram", steps=5, api_name="/train")
        assert trained["state"] == "done", trained
