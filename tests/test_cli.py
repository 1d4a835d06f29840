from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from charlm import CharlmError, checkpoints, cli
from charlm.corpus import Corpus
from charlm.models import build
from charlm.tokenizer import CharTokenizer
from charlm.training import presets
from charlm.training.trainer import Trainer

pytestmark = pytest.mark.slow


def run(*args: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "charlm", *args], capture_output=True, text=True, timeout=120, **options
    )


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The same in this process, which spares the import of PyTorch."""

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        try:
            code = cli.main(list(args))
        except SystemExit as end:
            code = end.code
        return subprocess.CompletedProcess(args, code, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def data(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("data") / "colours.txt"
    path.write_text(corpus.text)
    return str(path)


@pytest.fixture(scope="module")
def train_command(data: str) -> list[str]:
    sizes = ["--n-layer", "1", "--n-embd", "16", "--n-head", "2", "--block-size", "16"]
    return ["train", "small", "--data", data, *sizes, "--batch-size", "4"]


def test_train_then_evaluate_then_sample(train_command: list[str], data: str, tmp_path: Path, here):
    out = tmp_path / "model"
    trained = run(*train_command, "--steps", "20", "--out", str(out), "--json")
    assert trained.returncode == 0, trained.stderr
    record = json.loads(trained.stdout)
    assert record["steps"] == 20
    # Whoever reads it learns the names of files, not where they lie.
    assert record["command"].startswith("python -m charlm train small --data colours.txt ")
    assert "--out model " in record["command"]
    assert f"what it learned is in {out}" in trained.stderr
    assert not (out / "training.safetensors").exists()

    result = json.loads(here("evaluate", str(out), "--data", data, "--json").stdout)
    assert result["val_loss"] == pytest.approx(record["val_loss"], abs=1e-6)
    assert result["val_chars"] == len(Path(data).read_text()) - int(0.9 * len(Path(data).read_text()))
    assert result["parameters"] == record["parameters"]

    sample = ["sample", str(out), "--prompt", "ANN", "--max-new-chars", "30", "--seed", "1"]
    written = json.loads(here(*sample, "--json").stdout)
    assert len(written["text"]) == len(written["probs"]) == 30
    assert run(*sample).stdout == "ANN" + written["text"] + "\n"


@pytest.mark.thorough
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send to one process")
def test_an_interrupted_run_keeps_what_it_learned_and_resumes(train_command: list[str], tmp_path: Path):
    command = [*train_command, "--steps", "100000", "--out", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "-m", "charlm", *command], stderr=subprocess.PIPE, text=True, bufsize=1
    )
    while "step 100:" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    stderr = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "--resume goes on from there" in stderr
    assert 100 <= json.loads((tmp_path / "config.json").read_text())["record"]["steps"] < 100000
    refused = run(*train_command, "--steps", "30", "--out", str(tmp_path), "--resume")
    assert refused.returncode == 1
    assert "another run" in refused.stderr


@pytest.mark.thorough
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_killed_run_resumes_as_if_never_killed(train_command: list[str], tmp_path: Path):
    options = ["--steps", "200", "--eval-interval", "50", "--json"]
    whole = run(*train_command, *options, "--out", str(tmp_path / "whole"))
    command = [*train_command, *options, "--out", str(tmp_path / "killed")]
    process = subprocess.Popen(
        [sys.executable, "-m", "charlm", *command], stderr=subprocess.PIPE, text=True, bufsize=1
    )
    while "step 100:" not in process.stderr.readline():
        assert process.poll() is None
    process.kill()
    process.wait()
    resumed = run(*command, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    first, second = json.loads(whole.stdout), json.loads(resumed.stdout)
    assert second["val_loss"] == first["val_loss"]
    assert [point[:3] for point in second["curve"]] == [point[:3] for point in first["curve"]]


def test_a_run_that_was_interrupted_is_not_overwritten(train_command: list[str], tmp_path: Path, here):
    (tmp_path / cli.STATE).write_bytes(b"hours of work")
    result = here(*train_command, "--steps", "5", "--out", str(tmp_path))
    assert result.returncode == 1
    assert "--resume" in result.stderr
    assert "another --out" in result.stderr
    assert (tmp_path / cli.STATE).read_bytes() == b"hours of work"


@pytest.mark.thorough
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send to one process")
def test_told_to_end_twice_and_killed_it_has_saved_already(train_command: list[str], tmp_path: Path):
    """The state is there before anything else is done at the end."""
    command = [*train_command, "--steps", "100000", "--eval-interval", "100000", "--out", str(tmp_path)]
    process = subprocess.Popen([sys.executable, "-m", "charlm", *command], stderr=subprocess.PIPE, text=True)
    while "step 0:" not in process.stderr.readline():
        assert process.poll() is None
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    while "--resume goes on from there" not in process.stderr.readline():
        assert process.poll() is None
    process.kill()
    process.communicate()
    resumed = subprocess.Popen(
        [sys.executable, "-m", "charlm", *command, "--resume"], stderr=subprocess.PIPE, text=True
    )
    time.sleep(5)
    resumed.send_signal(signal.SIGINT)
    assert resumed.wait(30) == 130
    assert re.search(r"stopped at step \d{2,}", resumed.stderr.read())


def test_a_disk_that_fills_up_on_the_way_does_not_end_a_run(
    train_command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here
):
    save, calls = Trainer.save, []

    def fail_later(trainer: Trainer, path: Path) -> None:
        calls.append(path)
        if len(calls) > 1:
            raise CharlmError("Cannot write training.safetensors: No space left on device.")
        save(trainer, path)

    monkeypatch.setattr(Trainer, "save", fail_later)
    result = here(*train_command, "--steps", "4", "--eval-interval", "2", "--out", str(tmp_path))
    assert result.returncode == 0
    assert "No space left on device. The run goes on." in result.stderr
    assert checkpoints.load(tmp_path).record["steps"] == 4


def test_a_loss_that_is_no_number_ends_a_run(train_command: list[str], tmp_path: Path, here):
    result = here(*train_command, "--steps", "50", "--learning-rate", "1e30", "--out", str(tmp_path))
    assert result.returncode == 1
    assert "charlm: After 1 step the loss is " in result.stderr
    assert "What helps: a lower rate (learning_rate is 1e+30" in result.stderr
    assert not (tmp_path / checkpoints.CONFIG).exists()


def test_in_a_thread(train_command: list[str], tmp_path: Path, here):
    """Which may not listen to signals."""
    with ThreadPoolExecutor() as threads:
        command = [*train_command, "--steps", "2", "--out", str(tmp_path)]
        assert threads.submit(here, *command).result().returncode == 0


@pytest.mark.thorough
@pytest.mark.skipif(os.name == "nt", reason="needs a shell")
def test_an_output_that_was_closed():
    shell = f"{sys.executable} -m charlm sample gpt --max-new-chars 3 >&-"
    result = subprocess.run(shell, shell=True, stderr=subprocess.PIPE, text=True)
    assert (result.returncode, result.stderr) == (0, "")


def test_an_output_that_cannot_show_the_text(tmp_path: Path):
    cyrillic = build("bigram", CharTokenizer("абв"), {"block_size": 8}, seed=1)
    checkpoints.save(cyrillic, {}, tmp_path)
    command = [sys.executable, "-m", "charlm", "sample", str(tmp_path), "--max-new-chars", "5"]
    environment = os.environ | {"PYTHONIOENCODING": "cp1252"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    assert re.fullmatch(r"(\\u043[0-2]){5}\n", result.stdout)


@pytest.mark.thorough
def test_without_a_compiler_a_run_goes_on_as_it_is(train_command: list[str], tmp_path: Path):
    environment = os.environ | {"CXX": "no-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    command = [*train_command, "--compile", "--steps", "2", "--out", str(tmp_path / "model")]
    result = run(*command, env=environment)
    assert result.returncode == 0, result.stderr
    assert "Training is not compiled, because that fails" in result.stderr


def test_resuming_what_never_began_is_told(train_command: list[str], tmp_path: Path, here):
    result = here(*train_command, "--out", str(tmp_path / "new"), "--resume")
    assert result.returncode == 1
    assert "There is no run to resume" in result.stderr


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["sample", "nothing"], "no checkpoint 'nothing'"),
        (["evaluate", "gpt", "--data", "missing.txt"], "Cannot read missing.txt"),
        (["sample", "gpt", "--prompt", "é"], "lacks “é”: the first is at position 0"),
        (["sample", "gpt", "--temperature", "nan"], "temperature"),
        (["train", "bigram", "--n-head", "2", "--out", "x"], "no n_head"),
        (["train", "bigram", "--learning-rate", "-1", "--out", "x"], "learning_rate must be above 0"),
        (["train", "bigram", "--learning-rate", "nan", "--out", "x"], "learning_rate must be above 0"),
        (["train", "bigram", "--seed", "9" * 21, "--out", "x"], "seed must be from 0 to"),
        (["train", "bigram", "--seed", "-1", "--out", "x"], "seed must be from 0 to"),
        (["bench", "generation", "--rounds", "0"], "rounds must be at least 1"),
    ],
)
def test_mistakes_get_one_sentence_and_exit_code_1(command: list[str], message: str, here):
    result = here(*command)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("command", ["train", "sample", "evaluate"])
def test_help_shows_an_example(command: str, here):
    result = here(command, "--help")
    assert result.returncode == 0
    assert f"example: python -m charlm {command} " in result.stdout


def test_wrong_usage_exits_with_2(here):
    assert here("train", "nonsense").returncode == 2


def test_a_recipe_is_what_its_arguments_ask_for(monkeypatch: pytest.MonkeyPatch, data: str, here):
    """What travels from a visitor's request to the process of his run arrives as it was."""
    changes: dict[str, Any] = {"n_layer": 2, "n_embd": 32, "steps": 7, "seconds": 1.5, "eval_interval": 3}
    changes |= {"residual": False, "norm": "layernorm", "optimizer": "sgd", "average_decay": 0.0}
    recipe = presets.recipe("small", changes)
    asked = []
    arguments = recipe.arguments()
    monkeypatch.setattr(presets, "recipe", lambda *request: asked.append(request) or stop())
    here("train", *arguments, "--data", data, "--out", "nowhere")
    ((preset, given),) = asked
    monkeypatch.undo()
    assert presets.recipe(preset, given) == recipe


def stop() -> None:
    raise CharlmError("Far enough.")
