"""Shared fixtures: a small text and small trained models, made once, without internet."""

from __future__ import annotations

import hub_server  # isort: skip  (first: it points huggingface_hub, when imported, at itself)

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import browser
import pytest
import torch

import charlm
from charlm import checkpoints
from charlm.bench.serving import CHROMIUM, CHROMIUM_ARGUMENTS, serving
from charlm.corpus import Corpus
from charlm.models import LanguageModel, build
from charlm.service.models import ModelService
from charlm.tokenizer import CharTokenizer
from charlm.training.trainer import Trainer, TrainingOptions

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Playwright

# Models this small are slower on two threads than on one.
torch.set_num_threads(1)

TEXT = "".join(
    f"{who}:\nThe {thing} is {colour}, and {n} of them I saw.\n\n"
    for n in range(40)
    for who, thing, colour in (("ANN", "rose", "red"), ("BOB", "leaf", "green"), ("EVE", "sea", "blue"))
)


TINY = {"block_size": 16, "n_layer": 1, "n_head": 2, "n_embd": 16}
"""The sizes of a GPT that is trained in no time."""


def wait_for(condition: Callable[[], object]) -> None:
    """Fails if it takes more than 90 seconds."""
    end = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


@pytest.fixture
def service() -> Iterator[ModelService]:
    """A model service of a test's own."""
    service = ModelService()
    yield service
    service.close()


@pytest.fixture
def ann(service: ModelService) -> str:
    """A visitor."""
    return service.visitors.welcome("192.0.2.1")


@pytest.fixture
def bob(service: ModelService) -> str:
    """Another, elsewhere."""
    return service.visitors.welcome("192.0.2.2")


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    return Corpus(TEXT, "colours")


@pytest.fixture(scope="session")
def tokenizer(corpus: Corpus) -> CharTokenizer:
    return CharTokenizer.from_text(corpus.text)


def make_model(tokenizer: CharTokenizer, architecture: str = "gpt", **sizes: object) -> LanguageModel:
    small = {"block_size": 16, "n_layer": 2, "n_head": 2, "n_embd": 16}
    return build(architecture, tokenizer, small | sizes, seed=1)


@pytest.fixture(scope="session")
def trained(corpus: Corpus, tokenizer: CharTokenizer) -> LanguageModel:
    """A two-layer GPT that has learned a little of `corpus`."""
    options = TrainingOptions(
        steps=150, batch_size=16, learning_rate=0.02, muon_learning_rate=0.04, warmup_steps=10, eval_blocks=4
    )
    trainer = Trainer(make_model(tokenizer), corpus, options)
    for _ in trainer.run():
        pass
    return trainer.average.rounded().eval()


@pytest.fixture(scope="session")
def checkpoint(trained: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    checkpoints.save(trained, {"command": "test", "val_loss": 1.0, "parameters": 1}, folder)
    return folder


@pytest.fixture(scope="session")
def gpt() -> LanguageModel:
    """The committed model."""
    return charlm.load("gpt")


@pytest.fixture(scope="session", autouse=True)
def coverage_setting() -> dict[str, str]:
    """What makes a new process count its lines. It takes half as long again to start then, so only the app
    of `url` does: the tests call almost everything else in their own process."""
    return {name: os.environ.pop(name) for name in ("COVERAGE_PROCESS_CONFIG",) if name in os.environ}


@pytest.fixture(scope="session")
def url(coverage_setting: dict[str, str]) -> Iterator[str]:
    """The address of the app, started as its user starts it."""
    with serving("app.py", **coverage_setting) as (url, _):
        yield url


@pytest.fixture(scope="module")
def page(request: pytest.FixtureRequest, url: str, chromium: Browser) -> Iterator[Page]:
    """A page for all tests of a file that leave it as they found it, opened by the file's own `opened`:
    opening takes longer than most tests."""
    with request.module.opened(url, chromium) as page:
        yield page


@pytest.fixture
def fresh(request: pytest.FixtureRequest, url: str, chromium: Browser) -> Iterator[Page]:
    """Such a page for one test alone."""
    with request.module.opened(url, chromium) as page:
        yield page


@pytest.fixture
def hub() -> Iterator[hub_server.HubServer]:
    """The local Hub, empty and without faults."""
    with hub_server.serving() as server:
        yield server


@pytest.fixture(scope="module")
def started() -> Iterator[Playwright]:
    browser.skip_without_browser()
    from playwright.sync_api import sync_playwright  # late: not every test has Playwright

    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="module")
def chromium(started: Playwright) -> Browser:
    return started.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
