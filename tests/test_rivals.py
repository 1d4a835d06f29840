"""What `bench generation` compares with: libraries that need not be installed, and may be broken."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from conftest import make_model

from charlm.bench import generation, rivals
from charlm.models import GPT, LanguageModel
from charlm.tokenizer import CharTokenizer


@pytest.fixture
def model(tokenizer: CharTokenizer) -> GPT:
    """As small as 8-bit weights in blocks of 32 can be."""
    return cast(GPT, make_model(tokenizer, n_embd=64).eval())


@pytest.fixture(params=rivals.RIVALS, ids=lambda rival: rival.module)
def rival(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> rivals.Rival:
    """The only one there is."""
    monkeypatch.setattr(rivals, "RIVALS", (request.param,))
    monkeypatch.delitem(sys.modules, f"charlm.bench.rivals.{request.param.module}", raising=False)
    return request.param


def test_what_is_not_installed_is_left_out_with_a_sentence(
    rival: rivals.Rival, model: GPT, monkeypatch: pytest.MonkeyPatch
):
    *_, last = rival.packages
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == last else object())
    install = " ".join(rival.packages.values())
    said = f"{rival.name} is not installed (pip install {install}), so it is left out."
    assert rivals.ways(model, 1) == ({}, [said])


def test_a_broken_library_is_left_out_with_a_sentence(
    rival: rivals.Rival, model: GPT, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    for name in rival.packages:
        (tmp_path / f"{name}.py").write_text("raise OSError('libfast.so: no such file\\nwith details')")
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    said = f"{rival.name} fails here (OSError: libfast.so: no such file), so it is left out."
    assert rivals.ways(model, 1) == ({}, [said])


def test_a_library_that_fails_when_it_writes_is_left_out_with_a_sentence(
    rival: rivals.Rival, model: GPT, monkeypatch: pytest.MonkeyPatch
):
    def fails() -> float:
        raise RuntimeError

    library = SimpleNamespace(ways=lambda model, streams: {"writes": lambda: 1.0, "fails": fails})
    monkeypatch.setitem(sys.modules, f"charlm.bench.rivals.{rival.module}", library)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert rivals.ways(model, 1) == ({}, [f"{rival.name} fails here (RuntimeError), so it is left out."])


@pytest.mark.parametrize(
    ("report", "ours"), [(generation.one_stream, "charlm.stream"), (generation.together, "charlm")]
)
def test_the_report_has_the_ratio_of_each_way(gpt, monkeypatch: pytest.MonkeyPatch, report, ours: str):
    others = {"one library": lambda: 40.0, "another": lambda: 125.0}
    monkeypatch.setattr(rivals, "ways", lambda model, streams: (others, ["A third is left out."]))
    monkeypatch.setattr(generation, "speed", lambda *_: 100.0)
    monkeypatch.setattr(generation, "memory_bandwidth", lambda size: 1e9)
    said = report(gpt, 2)
    rows = [line.strip("| ").split(" | ") for line in said.splitlines() if line.startswith("|")]
    assert rows[0][2] == f"{ours} is … times as fast"
    assert ["one library", "40", "2.50"] in rows
    assert ["another", "125", "0.80"] in rows
    assert "A third is left out." in said


def test_the_plain_cache_and_the_batch_write_many_texts(model: GPT):
    idx = torch.zeros(3, model.config.block_size, dtype=torch.long)
    for writing in (generation.plain_cache(model, idx), generation.batch(model, idx)):
        assert [len(next(writing)) for _ in range(3)] == [3, 3, 3]


@pytest.mark.thorough
@pytest.mark.parametrize("streams", [1, 3])
def test_each_that_is_installed_writes(rival: rivals.Rival, model: GPT, streams: int):
    for name in rival.packages:
        pytest.importorskip(name)
    ways, left_out = rivals.ways(model, streams)
    assert not left_out
    assert any(name.endswith(", 1 thread") for name in ways)
    assert all(way() > 0 for way in ways.values())


@pytest.mark.thorough
def test_each_that_is_installed_has_as_many_weights(model: GPT, tmp_path: Path):
    weights = sum(p.numel() for p in model.parameters() if p.ndim == 2)
    pytest.importorskip("transformers")
    from charlm.bench.rivals import hugging_face

    assert weights == sum(p.numel() for p in hugging_face.same_shape(model).parameters() if p.ndim == 2)
    for name in ("gguf", "llama_cpp"):
        pytest.importorskip(name)
    from charlm.bench.rivals import llama_cpp

    for name, kind in llama_cpp.TYPES.items():
        llama_cpp.write_gguf(model.config, kind, tmp_path / name)
        tensors = llama_cpp.gguf.GGUFReader(tmp_path / name).tensors
        assert weights == sum(int(t.n_elements) for t in tensors if len(t.shape) == 2)


@pytest.mark.thorough
def test_what_is_exported_is_the_model(trained: LanguageModel):
    """Its logits after a whole context are the model's."""
    for name in ("onnxruntime", "onnx", "onnxscript"):
        pytest.importorskip(name)
    from charlm.bench.rivals import onnx_runtime

    model = cast(GPT, trained)
    T, head_size = model.config.block_size, model.config.head_size
    ids = torch.arange(T) % model.config.vocab_size
    past = onnx_runtime._past(model, ids[:-1], 2)
    session = onnx_runtime.onnxruntime.InferenceSession(onnx_runtime._export(model, past))
    cos, sin = (a.numpy() for a in onnx_runtime.angles(torch.tensor([T - 1]), head_size))
    names = [node.name for node in session.get_inputs()]
    given = (ids[-1:].expand(2, 1).numpy(), cos, sin, *past)
    logits, *_ = session.run(None, dict(zip(names, given, strict=True)))
    with torch.inference_mode():
        torch.testing.assert_close(
            torch.from_numpy(logits), model(ids.expand(2, T))[0][:, -1], rtol=1e-4, atol=1e-5
        )
