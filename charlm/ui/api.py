"""The app for programs: named endpoints with typed parameters, for Gradio's clients and curl."""

from __future__ import annotations

import asyncio
import functools
import inspect
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr
from pydantic import ConfigDict, ValidationError, validate_call

from charlm.errors import CharlmError
from charlm.explain import attention
from charlm.explain.attention import MAX_TEXT_CHARS
from charlm.sampling import SamplingOptions
from charlm.service import ModelService

STRICT = ConfigDict(strict=True)
SECONDS_BETWEEN_UPDATES = 0.1
SECONDS_BETWEEN_REPORTS = 1.0


def build(service: ModelService) -> None:
    """Registers the endpoints with the page that is being built."""

    def models() -> list[dict[str, Any]]:
        """The models that can be named in the other calls, the best first."""
        return [{"name": name, **vars(service.info(name))} for name in service.names()]

    def encode(text: str, model: str = "gpt") -> list[int]:
        """The id of each character of the text."""
        return service.get(model).tokenizer.encode(_bounded(text))

    def decode(ids: list[int], model: str = "gpt") -> str:
        """The text of a list of ids."""
        if len(ids) > MAX_TEXT_CHARS:
            raise CharlmError(f"At most {MAX_TEXT_CHARS:,} ids at a time, not {len(ids):,}.")
        return service.get(model).tokenizer.decode(ids)

    def attend(text: str, model: str = "gpt", layer: int = 0, head: int = 0) -> dict[str, Any]:
        """How one head looks at the end of a text: the characters read, its raw scores q·k/√d and its
        weights after mask and softmax, row by row."""
        maps = service.compute(attention.explain, service.get(model), _bounded(text))
        n_layer, n_head = maps.weights.shape[:2]
        if not (0 <= layer < n_layer and 0 <= head < n_head):
            raise CharlmError(f"{model} has layers 0 to {n_layer - 1} and heads 0 to {n_head - 1}.")
        scores, weights = maps.scores[layer, head], maps.weights[layer, head]
        return {"text": maps.text, "scores": scores.tolist(), "weights": weights.tolist()}

    async def generate(
        prompt: str,
        model: str = "gpt",
        temperature: float = 0.8,
        top_k: int = 0,
        top_p: float = 1.0,
        max_new_chars: int = 200,
        seed: int = -1,
    ) -> AsyncIterator[str]:
        """Continues the prompt; each event has all that was written so far. top_k 0 keeps every
        character, seed -1 is a new one each time."""
        options = SamplingOptions(
            max_new_chars, temperature, top_k or None, top_p, None if seed == -1 else seed
        )
        stream = await asyncio.to_thread(service.stream, model, prompt, options)
        written = ""
        try:
            while True:
                closed, steps = stream.closed, stream.take()
                written += "".join(step.char for step in steps)
                if steps:
                    yield written
                if closed and not steps:
                    return
                await asyncio.sleep(SECONDS_BETWEEN_UPDATES if written or stream.place else 0.01)
        finally:
            stream.close()

    async def train(
        text: str, preset: str = "small", name: str = "my model", steps: int = 100
    ) -> AsyncIterator[dict[str, Any]]:
        """Trains a preset (bigram, attention, multi-head or small) on a text. Each event tells the
        state of the run and its latest losses; the last one names the model for the other calls."""
        visitor = secrets.token_urlsafe(24)
        start = functools.partial(service.runs.start, visitor, name, preset, {}, steps=steps, text=text)
        run = await asyncio.to_thread(service.compute, start)
        try:
            while True:
                active = run.active
                latest = run.evaluations[-1] if run.evaluations else {}
                yield {
                    "state": run.state,
                    "place": service.runs.place(run),
                    "step": run.progress.get("step", 0),
                    **{key: latest.get(key) for key in ("train_loss", "val_loss", "sample")},
                    "model": None if active else next(filter(service.is_own, service.names(visitor)), None),
                    "error": run.error,
                }
                if not active:
                    return
                await asyncio.sleep(SECONDS_BETWEEN_REPORTS)
        finally:
            service.runs.stop(visitor)

    for function in (models, encode, decode):
        gr.api(_told(function), api_name=function.__name__)
    gr.api(_told(attend), api_name="attention")
    for generator in (generate, train):
        gr.api(_told_on_the_way(generator), api_name=generator.__name__, concurrency_limit=None)


def _bounded(text: str) -> str:
    if len(text) > MAX_TEXT_CHARS:
        raise CharlmError(f"A text may have {MAX_TEXT_CHARS:,} characters: this one has {len(text):,}.")
    return text


def _told(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, its arguments checked against its types, its mistakes told to the caller."""
    checked = validate_call(config=STRICT)(function)

    @functools.wraps(function)
    def told(*args: Any, **kwargs: Any) -> Any:
        with _sentences():
            return checked(**_named(function, args, kwargs))

    return told


def _told_on_the_way(function: Callable[..., AsyncIterator[Any]]) -> Callable[..., AsyncIterator[Any]]:
    """The same for an endpoint that streams."""
    checked = validate_call(config=STRICT)(function)

    @functools.wraps(function)
    async def told(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        with _sentences():
            async for value in checked(**_named(function, args, kwargs)):
                yield value

    return told


def _named(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    return inspect.signature(function).bind(*args, **kwargs).arguments


@contextmanager
def _sentences() -> Iterator[None]:
    try:
        yield
    except CharlmError as error:
        raise gr.Error(str(error), print_exception=False) from error
    except ValidationError as error:
        first = error.errors()[0]
        sentence = f"{first['loc'][-1]}: {first['msg']}, not {str(first['input'])[:100]!r}."
        raise gr.Error(sentence, print_exception=False) from error
