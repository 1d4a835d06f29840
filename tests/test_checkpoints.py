from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save

import charlm
from charlm import CharlmError, checkpoints, models
from charlm.corpus import Corpus
from charlm.engine.decoding import runner_for
from charlm.models import LanguageModel
from charlm.service import limits
from charlm.tokenizer import CharTokenizer
from charlm.training import presets
from charlm.training.trainer import Trainer


@pytest.fixture
def copy(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


def edit_config(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / checkpoints.CONFIG
    description = json.loads(path.read_text())
    change(description)
    path.write_text(json.dumps(description))


def replace_weights(folder: Path, weights: bytes) -> None:
    """Puts in other weights whose hash is right, so that only what they hold can give them away."""
    (folder / checkpoints.WEIGHTS).write_bytes(weights)
    edit_config(folder, lambda d: d.update(weights_sha256=hashlib.sha256(weights).hexdigest()))


def test_round_trip(checkpoint: Path, trained: LanguageModel):
    model = charlm.load(checkpoint)
    x = torch.arange(10)[None]
    assert torch.equal(model(x)[0], trained(x)[0])
    assert model.tokenizer.vocab == trained.tokenizer.vocab
    assert model.record["command"] == "test"
    assert not model.training


def test_every_truncation_is_refused(copy: Path):
    weights = (copy / checkpoints.WEIGHTS).read_bytes()
    for length in (0, 1, 8, 100, len(weights) - 1):
        replace_weights(copy, weights[:length])
        with pytest.raises(CharlmError, match="not a whole safetensors file"):
            charlm.load(copy)


def test_a_flipped_bit_is_noticed(copy: Path):
    path = copy / checkpoints.WEIGHTS
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CharlmError, match="sha256 differs"):
        charlm.load(copy)


def test_weights_of_another_model_are_refused(copy: Path):
    edit_config(copy, lambda d: d["config"].update(n_layer=3))
    with pytest.raises(CharlmError, match="does not hold the weights"):
        charlm.load(copy)


def test_weights_that_are_not_numbers_are_refused(copy: Path):
    tensors = load_file(copy / checkpoints.WEIGHTS)
    tensors["lm_head.weight"][0, 0] = float("nan")
    replace_weights(copy, save(tensors))
    with pytest.raises(CharlmError, match="not finite"):
        charlm.load(copy)


def test_a_pickle_is_never_opened(copy: Path, tmp_path: Path):
    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "boom",)

    torch.save(Bomb(), copy / "bomb")
    replace_weights(copy, (copy / "bomb").read_bytes())
    with pytest.raises(CharlmError, match="safetensors"):
        charlm.load(copy)
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(format="other 1"), "not the configuration of a charlm model"),
        (lambda d: d.update(architecture="rnn"), "unknown architecture, 'rnn'"),
        (lambda d: d.pop("vocab"), "lacks its vocab"),
        (lambda d: d.update(vocab=d["vocab"][:-1]), "its vocabulary has"),
        (lambda d: d.update(vocab="aa"), "each only once"),
        (lambda d: d["config"].update(n_embd=10**9), "n_embd must be from 1 to"),
        (lambda d: d["config"].update(n_layer="two"), "describes no model"),
        (lambda d: d["config"].update(surprise=1), "describes no model"),
    ],
)
def test_wrong_configurations_are_refused(change: Any, message: str, copy: Path):
    edit_config(copy, change)
    with pytest.raises(CharlmError, match=message):
        charlm.load(copy)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '{"format": 1}', "\x00"])
def test_what_is_not_a_configuration_is_refused(text: str, copy: Path):
    (copy / checkpoints.CONFIG).write_text(text)
    with pytest.raises(CharlmError, match=r"config\.json"):
        charlm.load(copy)


@pytest.mark.parametrize("name", ["nothing", "", "../checkpoints", "/", "\x00"])
def test_unknown_names(name: str):
    with pytest.raises(CharlmError, match="no checkpoint"):
        charlm.load(name)


def test_a_folder_that_cannot_be_written_is_told(trained: LanguageModel, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CharlmError, match="Cannot write"):
        checkpoints.save(trained, {}, tmp_path / "file" / "folder")


def test_zip_round_trip(checkpoint: Path, trained: LanguageModel, tmp_path: Path):
    checkpoints.pack(checkpoint, tmp_path / "model.zip")
    x = torch.arange(10)[None]
    assert torch.equal(charlm.load(tmp_path / "model.zip")(x)[0], trained(x)[0])


def test_a_zip_bomb_is_refused(checkpoint: Path, tmp_path: Path):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", bytes(50_000_000))
    assert path.stat().st_size < 100_000
    with pytest.raises(CharlmError, match="larger than 4,000,000 bytes"):
        charlm.load(path)


def test_a_zip_writes_nothing_outside(checkpoint: Path, tmp_path: Path):
    checkpoints.pack(checkpoint, tmp_path / "model.zip")
    with zipfile.ZipFile(tmp_path / "model.zip", "a") as archive:
        archive.writestr("../evil.txt", "outside")
        archive.writestr("/evil.txt", "outside")
    before = sorted(tmp_path.rglob("*"))
    charlm.load(tmp_path / "model.zip")
    assert sorted(tmp_path.rglob("*")) == before
    assert not (tmp_path.parent / "evil.txt").exists()


def test_damaged_zips_are_refused_or_harmless(checkpoint: Path, trained: LanguageModel, tmp_path: Path):
    path = tmp_path / "model.zip"
    checkpoints.pack(checkpoint, path)
    data = path.read_bytes()
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    damaged = [(tmp_path / "empty.zip").read_bytes()]
    damaged += [bytes(255 - b if i == at else b for i, b in enumerate(data)) for at in range(40, 400, 12)]
    x = torch.arange(10)[None]
    refused = 0
    for broken in damaged:
        path.write_bytes(broken)
        try:
            assert torch.equal(charlm.load(path)(x)[0], trained(x)[0])
        except CharlmError:
            refused += 1
    assert refused > len(damaged) // 2


@pytest.mark.parametrize("name", ["bigram", "attention", "gpt"])
def test_committed_checkpoints_tell_how_they_were_made(name: str):
    model = charlm.load(name)
    assert model.tokenizer.encode("hii there") == [46, 47, 47, 1, 58, 46, 43, 56, 43]
    assert model.record["command"].startswith("python -m charlm train ")
    assert model.record["data_sha256"] == charlm.corpus.TINY_SHAKESPEARE_SHA256
    assert model.record["parameters"] == model.parameter_count()
    assert (checkpoints.CHECKPOINTS / name / checkpoints.WEIGHTS).stat().st_size <= 20_000_000


def test_committed_losses():
    """What the README claims; the losses themselves are remeasured by `python -m charlm evaluate`."""
    losses = {name: charlm.load(name).record["val_loss"] for name in ("bigram", "attention", "gpt")}
    assert losses["gpt"] <= 1.55 < losses["attention"] < losses["bigram"] < 2.4919


@pytest.mark.parametrize(
    ("name", "architecture"), [("old-gpt", models.GPT), ("old-heads", models.AttentionLanguageModel)]
)
def test_what_version_0_1_wrote_loads_and_computes_the_same(name: str, architecture: type):
    """Then, both were one architecture, and a flag told them apart."""
    model = charlm.load(Path(__file__).parent / "data" / name)
    assert isinstance(model, architecture)
    logits, _ = model(torch.tensor([model.record["idx"]]))
    assert torch.allclose(logits[0], torch.tensor(model.record["logits"]), atol=1e-4)
    runner = runner_for(model)
    assert np.allclose(
        runner.prefill(0, np.array(model.record["idx"])), model.record["logits"][-1], atol=1e-4
    )


def test_a_bigram_of_many_characters_can_be_loaded_again(tmp_path: Path):
    """Its record has the counts of all pairs."""
    text = "".join(chr(0x4E00 + i) for i in range(limits.MAX_VOCAB_SIZE)) * 30
    recipe = presets.recipe("bigram", {"steps": 1})
    trainer = Trainer(recipe.model(CharTokenizer.from_text(text)), Corpus(text, "many"), recipe.options)
    list(trainer.run())
    checkpoints.save(trainer.average, trainer.record("test"), tmp_path)
    assert checkpoints.load(tmp_path).record["bigram_counts"][0][1] == 27


def test_what_could_not_be_read_again_is_not_written(trained: LanguageModel, tmp_path: Path):
    with pytest.raises(CharlmError, match="could not be read again"):
        checkpoints.save(trained, {"note": "a" * checkpoints.FILE_LIMITS[checkpoints.CONFIG]}, tmp_path)
    assert not list(tmp_path.iterdir())


def test_weights_that_half_precision_cannot_hold_are_not_written(tokenizer: CharTokenizer, tmp_path: Path):
    model = models.build("bigram", tokenizer, {"block_size": 8}, seed=1)
    model.token_embedding_table.weight.data[0, 0] = 1e6
    with pytest.raises(CharlmError, match="no numbers of half precision"):
        checkpoints.save(model, {}, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_whoever_may_not_read_new_files_may_not_read_a_checkpoint(trained: LanguageModel, tmp_path: Path):
    for umask, mode in ((0o077, 0o600), (0o022, 0o644)):
        before = os.umask(umask)
        try:
            checkpoints.save(trained, {}, tmp_path)
        finally:
            os.umask(before)
        assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {mode}
