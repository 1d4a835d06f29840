"""The app for programs: named endpoints with typed parameters, for Gradio's clients and curl."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr
from pydantic import ConfigDict, ValidationError, validate_call

from charlm.engine.sampling import SamplingOptions, Step
from charlm.errors import CharlmError, check_range
from charlm.service.batching import Stream, follow
from charlm.service.limits import MAX_SAMPLES, MAX_TEXT_CHARS, check_chars
from charlm.service.models import ModelService
from charlm.service.operated import operated_name, split_name
from charlm.service.run import Run
from charlm.surgery.edits import merge, parse, text_of
from charlm.surgery.heads import to_json
from charlm.ui.attention import numbers as attention
from charlm.ui.requests import client_of, mistake

STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True)
SECONDS_BETWEEN_UPDATES = 0.1
ALTERNATIVES = 10
SECONDS_BETWEEN_REPORTS = 1.0


class Api:
    """Each public method is an endpoint of its name, and its docstring the endpoint's description."""

    def __init__(self, service: ModelService):
        self._service = service

    def models(self) -> list[dict[str, Any]]:
        """The models that can be named in the other calls, the best first."""
        return [{"name": name, **vars(self._service.info(name))} for name in self._service.names()]

    def encode(self, text: str, model: str = "gpt") -> list[int]:
        """The id of each character of the text."""
        return self._service.get(model).tokenizer.encode(check_chars("A text", text, MAX_TEXT_CHARS))

    def decode(self, ids: list[int], model: str = "gpt") -> str:
        """The text of a list of ids."""
        if len(ids) > MAX_TEXT_CHARS:
            raise CharlmError(f"At most {MAX_TEXT_CHARS:,} ids at a time, not {len(ids):,}.")
        return self._service.get(model).tokenizer.decode(ids)

    def attention(self, text: str, model: str = "gpt", layer: int = 0, head: int = 0) -> dict[str, Any]:
        """How one head looks at the end of a text, layers and heads counted from 0: the characters read,
        its raw scores q·k/√d and its weights after mask and softmax. Both are matrices of the given shape and
        dtype, their bytes row by row in base64:
        numpy.frombuffer(base64.b64decode(weights), dtype).reshape(shape)."""
        check_chars("A text", text, MAX_TEXT_CHARS)
        return attention.compact(attention.explain(self._service.get(model), text), layer, head)

    def operate(self, edits: str, model: str = "gpt") -> dict[str, Any]:
        """The name, for the other calls, of a model with parts changed, and what that costs: its mean loss
        in nats per character on an excerpt of the validation split, and that of the model before. Edits are
        LAYER.HEAD:silent, :average, :x1.5 or :learned, LAYER.attention:off, LAYER.mlp:off and
        LAYER.mlp.NEURON:off, with a space between several; layers, heads and neurons count from 1."""
        base, made = split_name(model)
        name = operated_name(base, text_of(merge(parse(f"{made} {edits}"))))
        loss = self._service.loss(name)
        return {
            "model": name,
            "title": self._service.info(name).title,
            "loss": loss,
            "loss_before": self._service.loss(model),
            "bigram_loss": self._service.bigram_loss(name),
            "excerpt": self._service.excerpt(name).description,
        }

    async def heads(self, model: str = "gpt") -> AsyncIterator[dict[str, Any]]:
        """What each head of a model is worth and what it looks at, by layer and head. The ranking has by how
        much the loss grows, in nats per character, if one head is silenced or made a plain average; the atlas
        how much of its weight lies where each pattern says. A model of your own is measured first, which
        takes some seconds or, for the largest, over a minute."""
        measuring = await asyncio.wrap_future(self._service.submit(self._service.measure_heads, model))
        yield to_json(await asyncio.wrap_future(measuring))

    async def generate(
        self,
        request: gr.Request,
        prompt: str,
        model: str = "gpt",
        temperature: float = 0.8,
        top_k: int = 0,
        top_p: float = 1.0,
        max_new_chars: int = 200,
        seed: int = -1,
        samples: int = 1,
        distribution: bool = False,
    ) -> AsyncIterator[Any]:
        """Continues the prompt; each event has all that was written so far. top_k 0 keeps every
        character, seed -1 is a new one each time. Of several samples, with seeds that follow each other, an
        event has a list. With distribution, there is one event when all is written, and a text is a list of
        its characters: each itself, its probability, and the ten likeliest with theirs."""
        check_range("samples", samples, 1, MAX_SAMPLES)
        seeds = [None if seed == -1 else seed + i for i in range(samples)]
        client = client_of(request.client.host)
        streams: list[Stream] = []
        try:
            for own_seed in seeds:
                options = SamplingOptions(max_new_chars, temperature, top_k or None, top_p, own_seed)
                begun = self._service.submit(self._service.stream, model, prompt, options, client)
                streams.append(await asyncio.wrap_future(begun))
            written: list[list[Step]] = [[] for _ in streams]
            async for news in follow(streams, SECONDS_BETWEEN_UPDATES):
                for steps, fresh in zip(written, news, strict=True):
                    steps += fresh.steps
                if any(fresh.steps for fresh in news) and not distribution:
                    texts = ["".join(step.char for step in steps) for steps in written]
                    yield texts if samples > 1 else texts[0]
            if distribution:
                told = [_distribution(steps) for steps in written]
                yield told if samples > 1 else told[0]
        finally:
            for stream in streams:
                stream.close()

    async def train(
        self,
        request: gr.Request,
        text: str,
        preset: str = "small",
        name: str = "my model",
        steps: int = 100,
        settings: dict[str, Any] | None = None,
    ) -> AsyncIterator[dict[str, Any]]:
        """Trains a preset (bigram, attention, multi-head, small or a rung of the ladder) on a text, with
        other settings by the names that the command line's train has: {"residual": false, "n_layer": 6}.
        Each event tells the state of the run, its place in line (0: none), in about how many seconds it ends,
        its latest losses and what its last measured step did to each layer; the last one names the model for
        the other calls. A run that diverges ends in that state, with the reason as its error."""
        visitor = self._service.visitors.welcome(client_of(request.client.host))
        runs = self._service.runs
        start = functools.partial(runs.start, visitor, name, preset, settings or {}, steps=steps, text=text)
        run = await asyncio.wrap_future(self._service.submit(start))
        try:
            while True:
                active = run.active
                self._service.visitors.touch(visitor)
                model = None if active else next(iter(self._service.own_names(visitor)), None)
                left = round(runs.outlook(run).ends)
                yield _told(run) | {"place": runs.place(run), "seconds_left": left, "model": model}
                if not active:
                    return
                await asyncio.sleep(SECONDS_BETWEEN_REPORTS)
        finally:
            runs.stop(visitor)

    def register(self) -> None:
        """Adds the endpoints to the page that is being built."""
        for name in endpoints():
            method = getattr(self, name)
            if inspect.isasyncgenfunction(method):
                gr.api(_streaming_endpoint(method), api_name=name, concurrency_limit=None)
            else:
                gr.api(_endpoint(method, self._service), api_name=name)


def _distribution(steps: list[Step]) -> list[list[Any]]:
    """The characters of a text, with what they were drawn from."""
    return [[step.char, step.prob, step.alternatives[:ALTERNATIVES]] for step in steps]


def _told(run: Run) -> dict[str, Any]:
    """Where a run stands, for an event."""
    latest = run.evaluations[-1] if run.evaluations else run.progress
    return {
        "state": run.state,
        "diverged": run.state == "diverged",
        "step": run.progress["step"],
        "batch_loss": run.progress.get("batch_loss"),
        **{key: latest.get(key) for key in ("train_loss", "val_loss", "sample")},
        "measures": run.measures[-1] if run.measures else None,
        "error": run.error,
    }


def endpoints() -> dict[str, inspect.Signature]:
    """What can be called, by name, and how: the parameters of each."""
    methods = inspect.getmembers(Api, inspect.isfunction)
    return {
        name: _what_is_sent(inspect.signature(method))
        for name, method in methods
        if not name.startswith("_") and name != "register"
    }


def _what_is_sent(signature: inspect.Signature) -> inspect.Signature:
    """The parameters that a caller sends: not those that are put in here."""
    parameters = [p for name, p in signature.parameters.items() if name not in ("self", "request")]
    return signature.replace(parameters=parameters)


def _endpoint(function: Callable[..., Any], service: ModelService) -> Callable[..., Any]:
    """`function`, its arguments checked against its types, computed by one of the service's workers."""
    checked = validate_call(config=STRICT)(function)

    @functools.wraps(function)
    def endpoint(*args: Any, **kwargs: Any) -> Any:
        with _errors_for_clients():
            return service.compute(functools.partial(checked, **_named(function, args, kwargs)))

    return endpoint


def _streaming_endpoint(function: Callable[..., AsyncIterator[Any]]) -> Callable[..., AsyncIterator[Any]]:
    """The same for an endpoint that streams; it must not compute on its own."""
    checked = validate_call(config=STRICT)(function)

    @functools.wraps(function)
    async def endpoint(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        with _errors_for_clients():
            async for value in checked(**_named(function, args, kwargs)):
                yield value

    return endpoint


def _named(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    return inspect.signature(function).bind(*args, **kwargs).arguments


@contextmanager
def _errors_for_clients() -> Iterator[None]:
    """Turns a mistake into the error that Gradio sends to whoever made it."""
    try:
        yield
    except CharlmError as error:
        raise gr.Error(str(error), print_exception=False) from error
    except ValidationError as error:
        raise gr.Error(mistake(error), print_exception=False) from error
