"""The app's endpoints, called as programs would."""

from __future__ import annotations

import asyncio
import base64
import json
import math
from itertools import pairwise
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
import torch
from gradio_client import Client
from gradio_client.exceptions import AppError
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

import charlm
from charlm.models.trace import trace
from charlm.surgery.heads import load_heads, to_json

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def client(url: str) -> Client:
    return Client(url, verbose=False)


def test_every_function_has_a_named_endpoint(client: Client):
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    names = ["attention", "decode", "encode", "generate", "heads", "models", "operate", "train"]
    assert sorted(endpoints) == [f"/{name}" for name in names]
    parameters = {p["parameter_name"]: p["python_type"]["type"] for p in endpoints["/generate"]["parameters"]}
    assert parameters["prompt"] == "str"
    assert parameters["temperature"] == "float"
    assert parameters["seed"] == "int"


def test_encode_and_decode(client: Client):
    ids = client.predict("hii there", api_name="/encode")
    assert ids == [46, 47, 47, 1, 58, 46, 43, 56, 43]
    assert client.predict(ids, api_name="/decode") == "hii there"


def test_models(client: Client):
    models = client.predict(api_name="/models")
    assert [m["name"] for m in models[:3]] == ["gpt", "attention", "bigram"]
    assert [m["has_attention"] for m in models[:3]] == [True, True, False]


def test_attention(client: Client):
    maps = client.predict("To be", "attention", 0, 0, api_name="/attention")
    model = charlm.load("attention")
    traced = trace(model, torch.tensor([model.tokenizer.encode("To be")]))
    for name in ("weights", "scores"):
        matrix = np.frombuffer(base64.b64decode(maps[name]), maps["dtype"]).reshape(maps["shape"])
        assert np.allclose(matrix, getattr(traced, name)[0, 0, 0], rtol=1e-3, atol=1e-3)


def test_generate_streams_what_the_library_writes(client: Client):
    job = client.submit("ROMEO:", max_new_chars=300, temperature=0.7, top_k=10, seed=5, api_name="/generate")
    events = list(job)
    assert len(events) > 1
    assert all(later.startswith(earlier) for earlier, later in pairwise(events))
    steps = charlm.stream(charlm.load("gpt"), "ROMEO:", max_new_chars=300, temperature=0.7, top_k=10, seed=5)
    assert events[-1] == "".join(step.char for step in steps)


def test_generate_gives_samples_and_distributions(client: Client):
    asked = {"max_new_chars": 20, "temperature": 0.9, "seed": 5, "api_name": "/generate"}
    gpt = charlm.load("gpt")
    texts = [list(charlm.stream(gpt, "ROMEO:", max_new_chars=20, temperature=0.9, seed=s)) for s in (5, 6)]
    written = client.predict("ROMEO:", samples=2, **asked)
    assert written == ["".join(step.char for step in steps) for steps in texts]
    told = client.predict("ROMEO:", distribution=True, **asked)
    for step, (char, prob, alternatives) in zip(texts[0], told, strict=True):
        assert (char, prob) == (step.char, pytest.approx(step.prob, rel=1e-4))
        assert alternatives == [[c, pytest.approx(p, rel=1e-4)] for c, p in step.alternatives[:10]]


def test_train(client: Client):
    text = "the cat sat on the mat. " * 200
    events = list(client.submit(text, preset="bigram", steps=30, api_name="/train"))
    assert events[-1]["state"] == "done"
    assert events[-1]["step"] == 30
    written = client.predict("the", model=events[-1]["model"], max_new_chars=20, api_name="/generate")
    assert len(written) == 20
    assert set(written) <= set(text)
    told = client.predict("", model=events[-1]["model"], api_name="/operate")
    assert told["excerpt"] == "1 × 256 characters of the validation split of text.txt"
    assert told["loss"] == told["loss_before"] > 0


def test_train_takes_a_configuration_and_tells_of_every_layer(client: Client):
    text = "the cat sat on the mat. " * 200
    settings = {"n_layer": 2, "n_embd": 16, "n_head": 2, "block_size": 16, "residual": False}
    asked = {"preset": "blocks", "steps": 20, "settings": settings, "api_name": "/train"}
    last = list(client.submit(text, **asked))[-1]
    assert (last["state"], last["step"], last["diverged"], last["error"]) == ("done", 20, False, "")
    assert 0 < last["batch_loss"] < 5
    assert last["measures"]["step"] == 20
    names = [layer["name"] for layer in last["measures"]["layers"]]
    assert names == ["embedding", "layer 1", "layer 2", "logits"]

    asked["settings"] = settings | {"optimizer": "sgd", "learning_rate": 100.0, "batch_size": 4}
    last = list(client.submit(text, **asked))[-1]
    assert (last["state"], last["diverged"], last["model"]) == ("diverged", True, None)
    assert "the run has diverged" in last["error"]


def test_operate(client: Client):
    told = client.predict("5.4:silent  2.3:x1.5", api_name="/operate")
    assert told["model"] == "gpt/5.4:silent 2.3:x1.5"
    assert told["title"] == "GPT, six layers, with 2 edits"
    assert told["loss_before"] < told["loss"] < told["bigram_loss"]
    assert told["excerpt"] == "24 × 256 characters of the validation split of Tiny Shakespeare"
    back = client.predict("2.3:learned", told["model"], api_name="/operate")
    assert back["model"] == "gpt/5.4:silent"
    assert back["loss_before"] == told["loss"] > back["loss"] > told["loss_before"]


def test_a_changed_model_is_taken_by_the_other_calls(client: Client):
    name, changed = "gpt/5.4:silent", charlm.operate(charlm.load("gpt"), "5.4:silent")
    written = client.predict("ROMEO:", model=name, max_new_chars=30, seed=1, api_name="/generate")
    steps = charlm.stream(changed, "ROMEO:", max_new_chars=30, temperature=0.8, seed=1)
    assert written == "".join(step.char for step in steps)
    maps = client.predict("To be", name, 5, 0, api_name="/attention")
    weights = np.frombuffer(base64.b64decode(maps["weights"]), maps["dtype"]).reshape(maps["shape"])
    traced = trace(changed, torch.tensor([changed.tokenizer.encode("To be")]))
    assert np.allclose(weights, traced.weights[5, 0, 0], atol=1e-3)


def test_heads(client: Client):
    told = client.predict("attention", api_name="/heads")
    assert told == to_json(load_heads("attention"))


def test_the_functions_are_mcp_tools(client: Client):
    async def call() -> tuple[list[str], str]:
        async with (
            streamable_http_client(f"{client.src}gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            tools = [tool.name for tool in (await session.list_tools()).tools]
            name = next(tool for tool in tools if tool.endswith("encode"))
            result = await session.call_tool(name, {"text": "hii there", "model": "gpt"})
            return tools, result.content[0].text

    tools, text = asyncio.run(call())
    assert len(tools) == 8
    assert json.loads(text) == [46, 47, 47, 1, 58, 46, 43, 56, 43]


@pytest.mark.parametrize(
    ("endpoint", "arguments", "message"),
    [
        ("generate", {"prompt": "é"}, "at position 0"),
        ("generate", {"prompt": "a\x00"}, "at position 1"),
        ("generate", {"prompt": "x" * 10_001}, "may have 10,000 characters"),
        ("generate", {"prompt": "a", "temperature": -1}, "temperature must be 0 or more, not -1"),
        ("generate", {"prompt": "a", "temperature": "hot"}, "temperature: Input should be a valid number"),
        ("generate", {"prompt": "a", "top_p": 7.0}, "top_p must be above 0"),
        ("generate", {"prompt": "a", "top_k": -3}, "top_k must be at least 1, not -3"),
        ("generate", {"prompt": "a", "max_new_chars": 10**9}, "At most 5,000 characters"),
        ("generate", {"prompt": "a", "seed": -7}, "seed must be from 0"),
        ("generate", {"prompt": "a", "seed": 2**70}, "seed"),
        ("generate", {"prompt": "a", "samples": 5}, "samples must be from 1 to 4"),
        ("generate", {"prompt": None}, "prompt: Input should be a valid string"),
        ("generate", {"prompt": ["a"]}, "prompt: Input should be a valid string"),
        ("generate", {"prompt": "a", "model": "../gpt"}, "no such model"),
        ("generate", {"prompt": "a", "model": "/etc/passwd"}, "no such model"),
        ("generate", {"prompt": "a", "model": "ann/model"}, "no such model"),
        ("encode", {"text": 3}, "text: Input should be a valid string"),
        ("decode", {"ids": [999]}, "no character with id 999"),
        ("decode", {"ids": ["x"]}, "Input should be a valid integer"),
        ("attention", {"text": ""}, "nothing to look at"),
        ("attention", {"text": "a", "layer": 99}, "has layers 0 to"),
        ("attention", {"text": "a", "model": "bigram"}, "no attention"),
        ("operate", {"edits": "9.1:silent"}, "There is no layer 9"),
        ("operate", {"edits": "5.4:louder"}, "'5.4:louder' is no edit: write, for example"),
        ("operate", {"edits": "1.1:silent " * 2_000}, "may have 10,000 characters"),
        ("operate", {"edits": "1.1:silent", "model": "bigram"}, "no heads"),
        ("operate", {"edits": "1.1:silent", "model": "../gpt"}, "is no edit"),
        ("operate", {"edits": "1.1:silent", "model": "nobody"}, "no such model"),
        ("heads", {"model": "bigram"}, "no heads"),
        ("heads", {"model": "gpt/5.4:silent"}, "once it is kept"),
        ("heads", {"model": "nobody"}, "no such model"),
        ("train", {"text": "short"}, "too short"),
        ("train", {"text": "ab" * 3000, "steps": 0}, "from 1 to 5,000 steps, not 0"),
        ("train", {"text": "ab" * 3000, "preset": "gpt-4"}, "no preset called 'gpt-4'"),
        ("train", {"text": "ab" * 3000, "settings": {"n_layer": 99}}, "n_layer must be from 1 to 8, not 99"),
        ("train", {"text": "ab" * 3000, "settings": {"colour": 1}}, "A small model has no colour"),
        ("train", {"text": "ab" * 3000, "settings": 3}, "settings: Input should be a valid dictionary"),
        ("train", {"text": "ab" * 3000, "preset": "gpt"}, "'gpt' is not trained here: choose one of small"),
    ],
)
def test_mistakes_are_told_in_a_sentence(
    endpoint: str, arguments: dict[str, Any], message: str, client: Client
):
    with pytest.raises(AppError) as told:
        client.predict(**arguments, api_name=f"/{endpoint}")
    assert message in str(told.value)
    assert len(str(told.value)) < 300


@pytest.mark.parametrize(
    ("call", "body", "status", "told"),
    [
        ("encode", {"data": []}, 400, "encode takes text, model: 2 arguments in this order, not 0."),
        ("encode", {"data": ["hii", "gpt", 1]}, 400, "2 arguments in this order, not 3."),
        ("models", {"data": [1]}, 400, "models takes no arguments"),
        ("nothing", {"data": []}, 400, "There is no function 'nothing' here."),
        ("register", {"data": []}, 400, "There is no function 'register' here."),
        ("v2/nothing", {}, 400, "There is no function 'nothing' here."),
        ("v2/encode", {}, 400, "encode takes text, model; 'text' is missing."),
        ("v2/encode", {"text": "hii", "mdel": "gpt"}, 400, "encode takes text, model; 'mdel' is not one."),
        ("encode", {}, 422, "data"),
    ],
)
def test_calls_that_fit_no_function_are_told_so(
    call: str, body: dict[str, Any], status: int, told: str, url: str
):
    answer = httpx.post(f"{url}gradio_api/call/{call}", json=body, timeout=30)
    assert answer.status_code == status
    assert told in answer.text and len(answer.text) < 400 and "Traceback" not in answer.text


def test_the_last_arguments_may_be_left_out(url: str):
    for data in (["hii"], ["hii", "gpt"]):
        event = httpx.post(f"{url}gradio_api/call/encode", json={"data": data}).json()["event_id"]
        assert "[46, 47, 47]" in httpx.get(f"{url}gradio_api/call/encode/{event}").text


def test_not_a_number_is_refused(client: Client):
    with pytest.raises((AppError, ValueError)):
        client.predict(prompt="a", temperature=math.nan, api_name="/generate")
