"""What a reader would type is run as it stands."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from charlm import cli
from charlm.bench.serving import ROOT
from charlm.training import ladder

pytestmark = pytest.mark.slow

README = (ROOT / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent
ADDRESS = "http://127.0.0.1:7860"
"""Where the README has the app; the tests have theirs elsewhere."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def run(*command: str, cwd: Path = ROOT) -> str:
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    environment["PYTHONPATH"] = str(ROOT)
    result = subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", timeout=300, env=environment, cwd=cwd
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_library_example():
    writing, operating = (block for block in blocks("python") if "charlm.load" in block)
    assert len(run(sys.executable, "-c", writing)) == 200
    growth, text = run(sys.executable, "-c", operating).split("\n", 1)
    assert f"grows by {growth} nats" in operating
    assert len(text) == 200


def test_the_client_examples(url: str):
    writing, operating, training = (
        block.replace(ADDRESS, url.rstrip("/")) for block in blocks("python") if "gradio_client" in block
    )
    assert len(run(sys.executable, "-c", writing)) > 100
    (told,) = re.findall(r"# (gpt/.*)\n", operating)
    assert told in run(sys.executable, "-c", operating).splitlines()
    *_, ended, gradients = run(sys.executable, "-c", training).splitlines()
    assert re.match(r"done 50 \d\.\d+ \d\.\d+$", ended)
    assert len(json.loads(gradients)) == 4


@pytest.mark.skipif(os.name == "nt", reason="Windows has another shell")
def test_the_curl_example(url: str):
    (code,) = (block for block in blocks("sh") if "curl" in block)
    assert "[[46, 47, 47, 1, 58, 46, 43, 56, 43]]" in run(
        "bash", "-c", code.replace(ADDRESS, url.rstrip("/"))
    )


def test_the_ladder_is_the_one_that_comes_along():
    """`python -m charlm ladder` prints it."""
    assert ladder.table(ladder.load_ladder()) in README


@pytest.mark.thorough
@pytest.mark.skipif(os.name == "nt", reason="Windows has another shell")
def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Every `python -m charlm …` of the README that neither trains for long nor needs a token; the
    training ones with a tiny text and few steps."""
    lines = [line.split("#")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    monkeypatch.chdir(tmp_path)
    commands = [line for line in lines if "-m charlm " in line]
    assert len(commands) >= 10
    text = tmp_path / "my-book.txt"
    text.write_text("the cat sat on the mat, and the dog sat beside it.\n" * 100)
    for line in commands:
        words = shlex.split(line.split(">")[0])
        what = words[words.index("charlm") + 1]
        if what == "train":
            preset = words[words.index("train") + 1]
            words += ["--data", str(text), "--steps", "2", "--batch-size", "2"]
            if preset != "bigram":
                words += ["--n-embd", "16", "--n-head", "2", "--block-size", "16"]
            words = [w for w in words if w != "--compile"]
        elif what in ("evaluate", "heads"):
            words += ["--data", str(text)]
        elif what in ("bench", "ladder") or (what in ("deploy", "push") and "--dry-run" not in words):
            words = [*words[: words.index(what) + 1], "--help"]
        if words[0] == "torchrun" or what == "sample":
            assert run(*words, cwd=tmp_path) or what == "train"
            continue
        # The others in this process, which spares each the import of PyTorch.
        try:
            code = cli.main(words[words.index("charlm") + 1 :])
        except SystemExit as end:
            code = end.code
        assert not code, line
        assert capsys.readouterr().out or what == "train"
