"""What people and scanners send: every public function and endpoint answers, or says why not."""

from __future__ import annotations

import json
import math
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hub_server import TOKEN, HubServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import charlm
from charlm import CharlmError, cli, corpus, publish
from charlm.bench.serving import ROOT
from charlm.engine.sampling import SamplingOptions, next_char_probs
from charlm.hub import download, repo_id
from charlm.models import LanguageModel, build
from charlm.models.parts import CHOICES
from charlm.service import estimate, limits
from charlm.service.models import ModelService
from charlm.tokenizer import CharTokenizer
from charlm.training import evaluation, presets
from charlm.ui.attention import numbers as attention
from charlm.ui.averaging import numbers as averaging
from charlm.ui.bigram import numbers as bigram
from charlm.ui.inside import numbers as inside
from charlm.ui.tokens import numbers as tokens

MEGABYTE = "To be, or not to be. " * 50_000
NASTY = [
    "",
    "a",
    "\x00",
    "\ud800",
    "שלום עולם",
    "e\u0301\u0327\u200d\u202e",
    "👩‍👩‍👧‍👦",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "../../../etc/passwd",
    "/etc/passwd",
    "C:\\Windows\\win.ini",
    "file:///etc/passwd",
    "http://127.0.0.1:1/model",
    "\n" * 300,
    "{{7*7}} ${7*7} %s %n",
    MEGABYTE,
]
texts = st.sampled_from(NASTY) | st.text(max_size=300)
numbers = (
    st.sampled_from([0, -1, 1, 2**31, 2**63, -(2**63), 10**40, 1e308, -1e308, math.nan, math.inf, -math.inf])
    | st.integers(-10, 10**6)
    | st.floats()
)
whole = st.sampled_from([0, -1, 1, 2**31, 2**63, 10**40]) | st.integers(-10, 300)
anything = st.none() | st.booleans() | numbers | texts | st.lists(whole, max_size=3) | st.just({"a": 1})
many = settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def answer(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """What `function` gives, or None if it refuses in one sentence."""
    try:
        return function(*args, **options)
    except CharlmError as error:
        sentence = str(error)
        assert 10 < len(sentence) < 1000 and "Traceback" not in sentence
        return None


@many
@given(texts, texts)
def test_tokenizer(vocab: str, text: str):
    tokenizer = answer(CharTokenizer, vocab) or CharTokenizer("abc")
    ids = answer(tokenizer.encode, text)
    assert ids is None or tokenizer.decode(ids) == text
    assert set(tokenizer.unknown(text)) == set(text) - set(tokenizer.vocab)
    assert not tokenizer.unknown(tokenizer.replace_unknown(text))


@many
@given(st.lists(whole, max_size=20))
def test_decode(ids: list[int]):
    text = answer(CharTokenizer("abc").decode, ids)
    assert (text is None) == any(not 0 <= i < 3 for i in ids)


@many
@given(texts, numbers, whole, numbers, whole, whole)
def test_stream(trained: LanguageModel, prompt, temperature, top_k, top_p, length, seed):
    settings = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
    steps = answer(charlm.stream, trained, prompt, max_new_chars=length, **settings)
    if steps is not None:
        step = next(steps)
        assert step.char in trained.tokenizer.vocab
        assert 0 < step.prob <= 1 + 1e-9
        assert sum(p for _, p in step.alternatives) == pytest.approx(1)


@many
@given(st.lists(numbers.filter(math.isfinite), min_size=1, max_size=9), numbers, whole, numbers)
def test_next_char_probs(logits, temperature, top_k, top_p):
    options = answer(SamplingOptions, 1, temperature, top_k, top_p)
    if options is not None and max(map(abs, logits)) < 1e300:
        probs = next_char_probs(np.array(logits, dtype=float), temperature, top_k, top_p)
        assert probs.sum() == pytest.approx(1)


@many
@given(texts, texts)
def test_names_of_models_are_never_paths(name: str, revision: str):
    assert answer(charlm.load, name, revision) is None
    assert repo_id(name) is None or repo_id(name).count("/") == 1


@pytest.mark.thorough
@many
@given(texts | st.sampled_from(["ann/model", "ann/mo del", "ann", "ann/model/more", "-ann/model"]))
def test_the_hub_is_not_asked_for_what_is_no_name(hub: HubServer, checkpoint: Path, target: str):
    """With a model and a token that are right, so that the name alone can be wrong."""
    hub.repos.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_TOKEN", TOKEN)
        is_name = repo_id(target) == target
        assert (answer(publish.model_card, str(checkpoint), target) is not None) == is_name
        for function in (lambda: publish.push(str(checkpoint), target), lambda: publish.deploy(target)):
            assert (answer(function) is not None) == is_name
            assert list(hub.repos) == [target] * is_name
            hub.repos.clear()
    assert answer(download, target, {"config.json": 10**6}) is None


@pytest.fixture(scope="module")
def service() -> Iterator[ModelService]:
    service = ModelService()
    yield service
    service.close()


@many
@given(texts, texts, whole, numbers)
def test_the_model_service(service: ModelService, ann: str, name, prompt, length, temperature):
    for function in (service.info, service.get, service.pack):
        assert answer(function, name) is None
    assert service.find(name) is None
    assert service.own_names(name) == []
    options = answer(SamplingOptions, length, temperature)
    if options is not None:
        stream = answer(service.stream, "bigram", prompt, options)
        if stream is not None:
            assert stream.take(timeout=60)
            stream.close()
    for add in (
        lambda: service.add_zip(ann, name, Path(prompt)),
        lambda: service.add_from_hub(ann, name),
    ):
        assert answer(add) is None


VALID_RUN = {
    "name": "m",
    "preset": "small",
    "settings": {"n_layer": 1},
    "steps": 5,
    "seconds": 5.0,
    "text": "ab\n" * 2000,
}
ALLOWED_RUN: dict[str, Callable[[Any], bool]] = {
    "name": lambda name: bool(name.strip()) and len(name) <= limits.MAX_NAME_CHARS and "\ud800" not in name,
    "preset": lambda preset: preset in limits.TRAINABLE,
    "settings": lambda settings: all(1 <= n <= limits.SIZE_LIMITS["n_layer"] for n in settings.values()),
    "steps": lambda steps: 1 <= steps <= limits.MAX_STEPS,
    "seconds": lambda seconds: 1 <= seconds <= limits.MAX_RUN_SECONDS,
}


@many
@given(
    st.one_of(
        st.tuples(st.just("name"), texts),
        st.tuples(st.just("preset"), texts | st.sampled_from(list(presets.PRESETS))),
        st.tuples(st.just("settings"), st.dictionaries(st.just("n_layer"), whole)),
        st.tuples(st.just("steps"), whole),
        st.tuples(st.just("seconds"), numbers),
        st.tuples(st.just("text"), texts),
    )
)
def test_runs_that_make_no_sense_are_not_begun(service: ModelService, ann: str, change: tuple[str, Any]):
    """One thing at a time is wrong, so that nothing else can be what is refused."""
    service.runs.max_running = 0
    field, value = change
    request = VALID_RUN | {field: value}
    if request["preset"] in ("bigram", "attention", "multi-head"):
        request["settings"] = {}
    run = answer(service.runs.start, ann, **request)
    if field in ALLOWED_RUN:
        assert (run is not None) == ALLOWED_RUN[field](value)
    if run is not None:
        service.runs.stop(ann)
        assert run.state == "stopped"


@settings(many, max_examples=15)
@given(st.sampled_from(["sample", "evaluate", "train", "push", "deploy"]), st.lists(texts, max_size=3))
def test_the_command_line(command: str, arguments: list[str]):
    try:
        # What begins with a dash is an option; no model is called "no/…" nor can a run begin.
        code = cli.main([command, *(f"no/{argument}" for argument in arguments)])
    except SystemExit as end:
        code = end.code
    assert code in (1, 2)


@many
@given(data=st.binary(max_size=2000) | texts.map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_texts_that_are_read(data: bytes, tmp_path: Path):
    (tmp_path / "text").write_bytes(data)
    read = answer(corpus.load_corpus, tmp_path / "text")
    guessed = answer(corpus.decode_text, data)
    if read is not None:
        assert guessed[0] == read.text
        assert read.train_text + read.val_text == read.text
        assert len(read.sha256) == 64


@pytest.mark.parametrize("path", [p for p in NASTY if p[:1] and "/etc/passwd" not in p[:30]])
def test_corpus_paths(path: str):
    assert answer(corpus.load_corpus, path) is None


@many
@given(texts, whole)
def test_texts_to_train_on(text: str, block_size: int):
    vocab_size = answer(limits.check_corpus, text, max(1, block_size))
    assert vocab_size is None or vocab_size == len(set(text))


@many
@given(st.lists(st.integers(0, 3), max_size=50), st.integers(1, 60), st.integers(1, 60))
def test_get_batch(data: list[int], batch_size: int, block_size: int):
    batch = answer(corpus.get_batch, torch.tensor(data), batch_size, block_size)
    assert (batch is None) == (len(data) <= block_size)


@many
@given(texts, whole, whole, whole)
def test_explaining_functions(trained: LanguageModel, text, block_size, batch_size, seed):
    answer(tokens.explain, text, trained.tokenizer, batch_size, block_size, seed)
    maps = answer(attention.explain, trained, text)
    assert maps is None or np.allclose(maps.weights.sum(-1), 1, atol=1e-5)
    answer(averaging.explain, block_size, batch_size, seed)
    read = answer(inside.lens, trained, text)
    assert read is None or len(read[1]) == trained.config.n_layer + 1


@many
@given(texts, numbers)
def test_next_chars_of_the_bigram(char: str, temperature: float):
    model = charlm.load("bigram")
    answer(bigram.next_chars, model, char, temperature)


@many
@given(
    texts | st.sampled_from(list(presets.PRESETS)),
    st.dictionaries(st.sampled_from(["n_layer", "n_embd", "n_head", "block_size"]), whole),
)
def test_estimates(preset: str, sizes: dict[str, int]):
    for name in (preset, "small"):
        recipe = answer(presets.recipe, name, sizes)
        if recipe is not None:
            assert recipe.parameter_count() > 0
            assert estimate.seconds_per_step(recipe) > 0


def test_mutated_checkpoints_are_refused_or_work():
    pytest.importorskip("resource", reason="Windows does not tell what memory was used")
    from charlm.bench import fuzz

    verdict = fuzz.fuzz(300, seed=1)
    assert verdict.refused > 100 and verdict.loaded > 10


def test_a_checkpoint_whose_sizes_are_no_numbers_is_refused(checkpoint: Path):
    for sizes in ({"block_size": {}}, {"block_size": True}, {"block_size": 2.0}, {"block_size": 10**9}):
        with pytest.raises(CharlmError, match="block_size must be from 1 to 4096"):
            build("bigram", CharTokenizer("ab"), sizes, seed=1)


def test_losses_of_short_texts(trained: LanguageModel):
    assert answer(evaluation.evaluate, trained, torch.tensor([1])) is None
    assert answer(averaging.average_tril, torch.zeros(1, 1, 1)).shape == (1, 1, 1)


@pytest.fixture(scope="module")
def untouched() -> Iterator[None]:
    before = files()
    yield
    assert files() == before


def is_kept(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".coverage")


def files() -> dict[str, float]:
    """Everything of the project that a request might change."""
    kept = [p for folder in ("charlm", "checkpoints") for p in (ROOT / folder).rglob("*")]
    kept += ROOT.iterdir()
    return {str(p): p.stat().st_mtime for p in kept if is_kept(p)}


ENDPOINTS: dict[str, dict[str, st.SearchStrategy]] = {
    "/encode": {"text": texts | anything, "model": texts | st.just("gpt")},
    "/decode": {"ids": st.lists(whole) | anything, "model": st.just("gpt") | anything},
    "/attention": {"text": texts, "model": st.just("attention") | texts, "layer": anything, "head": whole},
    "/generate": {
        "prompt": texts,
        "model": st.just("bigram") | anything,
        "temperature": numbers | anything,
        "top_k": whole | anything,
        "top_p": numbers | anything,
        "max_new_chars": whole | anything,
        "seed": whole | anything,
    },
    # What would be accepted takes its time: a run of no steps never is.
    "/train": {
        "text": texts,
        "preset": texts | st.just("bigram"),
        "name": texts,
        "steps": st.just(0) | anything,
        "settings": st.dictionaries(st.sampled_from([*limits.BOUNDS, *CHOICES]) | texts, anything) | anything,
    },
}


def call(url: str, endpoint: str, arguments: dict[str, Any]) -> tuple[str, Any]:
    """What a scanner would send, which Gradio's client would not: the last event and its data."""
    data = json.dumps({"data": list(arguments.values())}).encode()
    request = urllib.request.Request(
        f"{url}gradio_api/call{endpoint}", data, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        event_id = json.load(response)["event_id"]
    with urllib.request.urlopen(f"{url}gradio_api/call{endpoint}/{event_id}", timeout=60) as response:
        *_, event, data, _, _ = response.read().decode().split("\n")
    return event.removeprefix("event: "), json.loads(data.removeprefix("data: "))


@pytest.mark.slow
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_endpoints(endpoint: str, url: str, untouched: None):
    @many
    @given(st.fixed_dictionaries(ENDPOINTS[endpoint]))
    def check(arguments: dict[str, Any]) -> None:
        event, data = call(url, endpoint, arguments)
        assert event in ("complete", "error")
        if event == "error":
            assert 10 < len(data["error"]) < 500
            assert "Traceback" not in data["error"]

    check()
    assert call(url, "/encode", {"text": "hii", "model": "gpt"}) == ("complete", [[46, 47, 47]])
