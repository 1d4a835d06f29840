"""Plain PyTorch writes what the kernel writes: before that is compiled, and where it cannot run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import make_model, wait_for

import charlm
from charlm.engine import compiling, kernel
from charlm.engine.compiling import Kernel
from charlm.engine.decoding import AttentionRunner, runner_for
from charlm.engine.plain import PlainRunner
from charlm.engine.sampling import SamplingOptions, prompt_ids
from charlm.models import LanguageModel
from charlm.service.batching import Batcher
from charlm.tokenizer import CharTokenizer

LONG = 45
"""Characters: more than twice what the models here read at a time."""
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(params=["gpt", "attention"])
def runners(request: pytest.FixtureRequest, tokenizer: CharTokenizer) -> tuple[AttentionRunner, PlainRunner]:
    model = make_model(tokenizer, request.param).rounded().eval()
    compiled, plain = runner_for(model, 3), runner_for(model, 3, plain=True)
    assert isinstance(compiled, AttentionRunner) and isinstance(plain, PlainRunner)
    return compiled, plain


def test_both_give_the_same_logits(runners: tuple[AttentionRunner, PlainRunner]):
    """Of texts of different lengths, beyond what the model reads at a time."""
    for slot, length in enumerate((1, 7, 30)):
        ids = np.arange(length) % 7
        expected, logits = (runner.prefill(slot, ids) for runner in runners)
        np.testing.assert_allclose(logits, expected, **CLOSE)
    for i in range(LONG):
        ids = np.array([i % 5, i % 3, i % 7])
        expected, logits = (runner.step(ids) for runner in runners)
        np.testing.assert_allclose(logits, expected, **CLOSE)


def test_a_text_moves_from_one_to_the_other(runners: tuple[AttentionRunner, PlainRunner]):
    compiled, plain = runners
    for runner in runners:
        runner.prefill(0, np.arange(5))
        runner.prefill(1, np.arange(20) % 7)
        for i in range(12):
            runner.step(np.array([i % 5, i % 3]))
    for slot in (0, 1):
        theirs, ours = compiled.save(slot), plain.save(slot)
        assert theirs.length == ours.length
        np.testing.assert_allclose(ours.keys, theirs.keys, **CLOSE)
        np.testing.assert_allclose(ours.values, theirs.values, **CLOSE)
        compiled.restore(slot, ours)
        plain.restore(slot, theirs)
    for runner in runners:
        runner.resize(2)
        runner.move(1, 0)
        runner.resize(4)
    expected, logits = (runner.step(np.array([3, 3])) for runner in runners)
    np.testing.assert_allclose(logits, expected, **CLOSE)
    np.testing.assert_allclose(logits[0], logits[1], **CLOSE)


def write(batcher: Batcher, model: LanguageModel, chars: int):
    options = SamplingOptions(chars, temperature=0.8, seed=3)
    return batcher.submit(model, prompt_ids(model.tokenizer, "ANN"), options)


def test_a_text_goes_on_where_it_is_once_the_kernel_is_ready(trained: LanguageModel):
    not_ready = SimpleNamespace(ready=False)
    batcher = Batcher(not_ready)
    text = write(batcher, trained, 4000)
    steps = text.take(timeout=60)
    (group,) = batcher._groups.values()
    assert isinstance(group.runner, PlainRunner)
    not_ready.ready = True
    assert not text.closed
    while not text.closed:
        steps += text.take(timeout=60)
    steps += text.take()
    assert isinstance(group.runner, AttentionRunner)
    expected = charlm.stream(trained, "ANN", max_new_chars=4000, temperature=0.8, seed=3)
    assert [(step.char, pytest.approx(step.prob, rel=1e-3)) for step in expected] == [
        (step.char, step.prob) for step in steps
    ]


def test_the_kernel_becomes_ready_once(monkeypatch: pytest.MonkeyPatch):
    begun = []
    monkeypatch.setattr(compiling, "_is_kept", lambda: begun)
    monkeypatch.setattr(Kernel, "_compile_elsewhere", lambda _: begun.append(1))
    ready = Kernel()
    assert not ready.ready
    ready.prepare()
    ready.prepare()
    wait_for(lambda: ready.ready)
    assert begun == [1]


def test_a_compiler_that_ends_its_process_ends_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(compiling, "_is_kept", lambda: False)
    monkeypatch.setattr(compiling, "COMMAND", [sys.executable, "-c", "import os; os.abort()"])
    failed = Kernel()
    failed.prepare()
    wait_for(lambda: "without the kernel" in caplog.text)
    assert not failed.ready


@pytest.mark.slow
def test_a_start_that_ends_at_once_ends_well(tmp_path: Path):
    """Also on a machine that has never run charlm, while the compiler is at work and a text is written."""
    code = """
from charlm.engine.sampling import SamplingOptions
from charlm.service.models import ModelService
service = ModelService()
service.warm_up()
service.stream("gpt", "A", SamplingOptions(5000)).take(60)
service.close()
"""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_what_is_kept_of_the_kernel_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    compiling.compile_kernel()
    assert compiling._is_kept()
    changed = tmp_path / "kernel.py"
    changed.touch()
    monkeypatch.setattr(kernel, "__file__", str(changed))
    assert not compiling._is_kept()


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["half precision", pytest.param("Numba", marks=pytest.mark.thorough)])
def test_where_the_kernel_cannot_run_texts_are_the_same(missing: str, tmp_path: Path, gpt: LanguageModel):
    """On a processor without F16C, and without Numba."""
    environment = os.environ | {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    if missing == "Numba":
        (tmp_path / "numba.py").write_text("raise ImportError")
        environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "charlm", "sample", "gpt", "--prompt", "ROMEO:", "--seed", "5"]
    written = subprocess.run(
        [*command, "--max-new-chars", "20"], env=environment, capture_output=True, text=True
    )
    expected = charlm.stream(gpt, "ROMEO:", max_new_chars=20, temperature=0.8, seed=5)
    assert written.returncode == 0, written.stderr
    assert "".join(step.char for step in expected) in written.stdout
