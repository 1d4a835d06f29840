from __future__ import annotations

import io
import urllib.request
from pathlib import Path

import pytest
import torch

from charlm import CharlmError, Corpus, get_batch, load_corpus
from charlm import corpus as corpus_module
from charlm.tokenizer import CharTokenizer


def test_split_is_90_10_and_loses_nothing(corpus: Corpus, tokenizer: CharTokenizer):
    train, val = corpus.split(tokenizer)
    assert len(train) == int(0.9 * len(corpus.text))
    assert tokenizer.decode(train.tolist()) + tokenizer.decode(val.tolist()) == corpus.text


def test_batch_targets_are_the_inputs_shifted_by_one():
    data = torch.arange(100)
    x, y = get_batch(data, 7, 8, torch.Generator().manual_seed(1))
    assert x.shape == y.shape == (7, 8)
    assert torch.equal(y, x + 1)


def test_batches_reach_every_chunk_the_last_included():
    data = torch.arange(12)
    x, _ = get_batch(data, 2000, 8, torch.Generator().manual_seed(1))
    assert set(x[:, 0].tolist()) == {0, 1, 2, 3}


def test_too_short_a_text_is_refused():
    with pytest.raises(CharlmError, match="need 9 characters: this text has 8"):
        get_batch(torch.arange(8), 1, 8)


def test_any_utf8_file_is_a_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "own.txt"
    path.write_text("naïve café", encoding="utf-8")
    assert load_corpus(path) == Corpus("naïve café", "own.txt")
    monkeypatch.setenv("CHARLM_DATA", str(path))
    assert load_corpus().name == "own.txt"


def test_unreadable_files_are_refused_in_a_sentence(tmp_path: Path):
    with pytest.raises(CharlmError, match="Cannot read"):
        load_corpus(tmp_path / "missing.txt")
    latin = tmp_path / "latin.txt"
    latin.write_bytes(b"caf\xe9")
    with pytest.raises(CharlmError, match="not UTF-8 text \\(byte 3\\)"):
        load_corpus(latin)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("CHARLM_DATA", raising=False)
    monkeypatch.setattr(corpus_module, "user_cache_dir", lambda *a, **k: str(tmp_path / "cache"))
    return tmp_path / "cache" / "tinyshakespeare.txt"


def serve(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", lambda *a, **k: io.BytesIO(data))


def test_download_is_verified_and_cached(cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(corpus_module, "TINY_SHAKESPEARE_SHA256", Corpus("Before we proceed", "").sha256)
    serve(monkeypatch, b"Before we proceed")
    assert load_corpus() == Corpus("Before we proceed", "Tiny Shakespeare")
    serve(monkeypatch, b"")
    assert load_corpus().text == "Before we proceed", "the second time it comes from the cache"
    cache.write_bytes(b"damaged")
    with pytest.raises(CharlmError, match="sha256 differs"):
        load_corpus()


def test_no_internet_is_told_in_a_sentence(cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(corpus_module, "TINY_SHAKESPEARE_URL", "http://127.0.0.1:9/none")
    with pytest.raises(CharlmError, match=r"could not be downloaded.*--data"):
        load_corpus()
    assert not cache.exists()
