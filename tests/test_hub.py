"""The Hub, spoken to over real HTTP by the real huggingface_hub, on a local server."""

from __future__ import annotations

import errno
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hub_server import TOKEN, HubServer, Repo

import charlm
from charlm import CharlmError, checkpoints, publish
from charlm.models import LanguageModel
from charlm.service.models import ModelService


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)


@pytest.fixture
def published(hub: HubServer, checkpoint: Path) -> str:
    """A model on the Hub, under a name that no other test has in its cache."""
    name = f"ann/{secrets.token_hex(4)}"
    repo = hub.repos[name] = Repo("model")
    repo.commit({f: (checkpoint / f).read_bytes() for f in (checkpoints.CONFIG, checkpoints.WEIGHTS)})
    return name


def same(a: LanguageModel, b: LanguageModel) -> bool:
    x = torch.arange(10)[None]
    return torch.equal(a(x)[0], b(x)[0])


def test_push_then_load(hub: HubServer, token: None, checkpoint: Path, trained: LanguageModel):
    url = publish.push(str(checkpoint), "ann/pushed", private=True)
    assert url.startswith(hub.url)
    repo = hub.repos["ann/pushed"]
    assert repo.private
    files = repo.commits[repo.refs["main"]]
    assert sorted(files) == ["README.md", "config.json", "model.safetensors"]
    card = files["README.md"].decode()
    assert "license: mit" in card
    assert 'charlm.load("ann/pushed")' in card
    assert "`test`" in card
    assert "| Validation loss | 1.0000 nats per character |" in card
    assert same(charlm.load("ann/pushed"), trained)


def test_a_revision_can_be_pinned(hub: HubServer, published: str, trained: LanguageModel):
    repo = hub.repos[published]
    first = repo.refs["main"]
    repo.refs["v1"] = first
    repo.commit({checkpoints.CONFIG: b"{}"})
    assert same(charlm.load(published, revision="v1"), trained)
    assert same(charlm.load(published, revision=first), trained)
    with pytest.raises(CharlmError, match="not the configuration of a charlm model"):
        charlm.load(published)
    with pytest.raises(CharlmError, match="no revision 'v2'"):
        charlm.load(published, revision="v2")


def test_what_was_loaded_once_loads_without_network(hub: HubServer, published: str, trained: LanguageModel):
    charlm.load(published)
    hub.faults.append((".", "drop"))
    assert same(charlm.load(published), trained)
    with pytest.raises(CharlmError, match="not in the local cache, and the Hub cannot be reached"):
        charlm.load("ann/never-seen")


def test_unknown_repositories(hub: HubServer):
    with pytest.raises(CharlmError, match="no repository ann/nothing on the Hub, or your token may not"):
        charlm.load("ann/nothing")


def test_gated_and_private_repositories(hub: HubServer, published: str):
    hub.repos[published].gated = True
    with pytest.raises(CharlmError, match="is gated: ask for access"):
        charlm.load(published)
    hub.repos[published].gated = False
    hub.repos[published].private = True
    with pytest.raises(CharlmError, match="or your token may not see it"):
        charlm.load(published)


def test_not_one_of_our_models(hub: HubServer):
    hub.repos["ann/other"] = Repo("model")
    hub.repos["ann/other"].commit({"README.md": b"hello", "pytorch_model.bin": b"pickle"})
    with pytest.raises(CharlmError, match="ann/other is not a charlm model: it lacks"):
        charlm.load("ann/other")


def test_a_model_too_large_is_not_downloaded(hub: HubServer, published: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(checkpoints.FILE_LIMITS, checkpoints.WEIGHTS, 100)
    with pytest.raises(CharlmError, match="larger than 100 bytes"):
        charlm.load(published)


def test_without_a_token_nothing_is_pushed(hub: HubServer, checkpoint: Path):
    with pytest.raises(CharlmError, match="token"):
        publish.push(str(checkpoint), "ann/model")
    with pytest.raises(CharlmError, match="token"):
        publish.deploy("ann/space")
    assert not hub.repos


def test_names_that_are_none(hub: HubServer, checkpoint: Path, token: None):
    with pytest.raises(CharlmError, match="write USER/NAME"):
        publish.push(str(checkpoint), "ann/mo del")


@pytest.mark.parametrize(
    ("status", "message"),
    [(401, "no repository|token"), (404, "status 404"), (429, "too many requests"), (500, "status 500")],
)
def test_faults_get_a_sentence(status: int, message: str, hub: HubServer, published: str):
    hub.faults.append(("/api/models", status))
    with pytest.raises(CharlmError, match=message):
        charlm.load(published)
    hub.faults.clear()
    assert charlm.load(published)


@pytest.mark.thorough
def test_a_connection_cut_in_the_middle_of_a_file(hub: HubServer, published: str):
    hub.faults.append((r"model\.safetensors", "cut"))
    with pytest.raises(CharlmError, match=r"could not be transferred whole|cannot be reached"):
        charlm.load(published)
    hub.faults.clear()
    assert charlm.load(published)


def test_a_visitor_brings_a_public_model(
    hub: HubServer, token: None, published: str, trained: LanguageModel, service: ModelService, ann: str
):
    name = service.add_from_hub(ann, f"https://hub.example/{published}")
    assert service.own_names(ann) == [name]
    assert service.info(name).title == published
    assert same(service.get(name), trained)
    hub.repos[published].private = True
    for address, message in (
        (published, "may not see it"),
        ("/etc/passwd", "write USER/MODEL"),
        ("", "write USER"),
    ):
        with pytest.raises(CharlmError, match=message):
            service.add_from_hub(ann, address)


def test_what_the_hub_sent_and_was_refused_does_not_stay(
    hub: HubServer, published: str, service: ModelService, ann: str
):
    repo = hub.repos[published]
    repo.commit({checkpoints.WEIGHTS: b"no weights" * 1000})
    before = kept(service)
    with pytest.raises(CharlmError, match="is damaged"):
        service.add_from_hub(ann, published)
    assert kept(service) == before


def test_a_disk_that_is_full_while_a_model_comes_is_told_without_folders(
    hub: HubServer, published: str, service: ModelService, ann: str, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object, **folders: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(folders["cache_dir"]))

    monkeypatch.setattr("charlm.hub.snapshot_download", fail)
    with pytest.raises(CharlmError) as told:
        service.add_from_hub(ann, published)
    assert str(told.value) == f"{published} could not be transferred whole (No space left on device)."


def kept(service: ModelService) -> set[Path]:
    """What lies in the cache of the Hub and in the service's folder."""
    folders = service.visitors.folder, Path(os.environ["HF_HOME"])
    return {path for folder in folders for path in folder.rglob("*")}


def test_the_card_of_a_changed_model_says_so(trained: LanguageModel, tmp_path: Path):
    changed = charlm.operate(trained, "1.1:silent")
    checkpoints.save(changed, changed.record | {"val_loss": None}, tmp_path)
    card = publish.model_card(str(tmp_path), "ann/changed")
    assert "| Validation loss | unknown |" in card and "| Changed since | `1.1:silent` |" in card


@pytest.mark.thorough
def test_deploy(hub: HubServer, token: None):
    files = publish.space_files()
    assert {"app.py", "README.md", "requirements.txt", "charlm/ui/train/tab.py"} <= set(files)
    assert "checkpoints/gpt/model.safetensors" in files
    assert not any(f.startswith(("tests", ".", "shared")) or "__pycache__" in f for f in files)
    url = publish.deploy("ann/space", private=True)
    assert url.endswith("spaces/ann/space")
    repo = hub.repos["ann/space"]
    assert repo.settings["sdk"] == "gradio"
    assert repo.private
    assert sorted(repo.commits[repo.refs["main"]]) == files
    repo.commit({"charlm/gone.py": b"old", "NOTES.md": b"kept"})
    publish.deploy("ann/space")
    assert sorted(repo.commits[repo.refs["main"]]) == sorted([*files, "NOTES.md"])


@pytest.mark.skipif(sys.version_info < (3, 11), reason="pathlib keeps os.scandir where no test can watch it")
def test_what_a_space_needs_is_found_without_looking_elsewhere(monkeypatch: pytest.MonkeyPatch):
    """A virtual environment beside it has tens of thousands of files."""
    looked: list[Path] = []
    scandir = os.scandir

    def spy(path: str = ".") -> Iterator[os.DirEntry[str]]:
        looked.append(Path(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", spy)
    assert "charlm/cli.py" in publish.space_files()
    wanted = [publish.ROOT / folder for folder in publish.SPACE_FOLDERS]
    assert looked and all(any(path.is_relative_to(folder) for folder in wanted) for path in looked)


def test_a_space_is_made_from_a_checkout(
    hub: HubServer, token: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(publish, "ROOT", tmp_path)
    with pytest.raises(CharlmError, match="made from a checkout"):
        publish.space_files()
    with pytest.raises(CharlmError, match="made from a checkout"):
        publish.deploy("ann/space")
    assert not hub.repos
