"""Where the tab's script asks for texts and guesses. They come beside Gradio's events, which send the value
of a component as a whole: a text comes in pieces, as `wire.py` writes them, for the browser to play."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from charlm.engine.sampling import SamplingOptions
from charlm.errors import CharlmError
from charlm.models import LanguageModel
from charlm.service.batching import Stream, follow
from charlm.service.limits import MAX_PROMPT_CHARS, check_chars
from charlm.service.models import ModelService
from charlm.tokenizer import UnknownCharacterError
from charlm.training.evaluation import logits_of
from charlm.ui.generate.wire import encode, encode_guesses
from charlm.ui.requests import client_of, mistake, refusal

WRITE, SCORE = "/generate/write", "/generate/score"
SECONDS_BETWEEN_PIECES = 0.1
RANDOM_SEEDS = 2**31
UNBUFFERED = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""Headers that keep proxies from holding back what is written."""


class Asked(BaseModel):
    """What guesses are wanted for."""

    model_config = ConfigDict(strict=True)

    prompt: str
    model: str


class Writing(Asked):
    """What is to be written. A `seed` of None is a new one."""

    temperature: float
    top_k: int
    top_p: float
    length: int
    seed: int | None


T = TypeVar("T", bound=Asked)


class GenerateRoutes:
    """Both routes, for the page's server."""

    def __init__(self, service: ModelService):
        self.service = service
        self.routes = [
            Route(WRITE, _answering(Writing, self.write), methods=["POST"]),
            Route(SCORE, _answering(Asked, self.score), methods=["POST"]),
        ]

    async def write(self, asked: Writing, client: str) -> AsyncIterator[str]:
        """Lines of what is written: first who writes, as JSON; then places in the line of those who wait
        ("w" and a number), guesses ("g"), and the end ("end"), or why there is none ("e" and a sentence)."""
        seed = secrets.randbelow(RANDOM_SEEDS) if asked.seed is None else asked.seed
        options = SamplingOptions(asked.length, asked.temperature, asked.top_k or None, asked.top_p, seed)
        begun = self.service.submit(self.service.stream, asked.model, asked.prompt, options, client)
        stream = await asyncio.wrap_future(begun)
        try:
            head = self._head(asked, stream.model) | {"seed": seed}
        except CharlmError:  # The model went meanwhile.
            stream.close()
            raise
        return _lines(head, stream)

    async def score(self, asked: Asked, client: str) -> AsyncIterator[str]:
        """Who guesses, and the guess at each character of a text but the first."""
        check_chars("A text", asked.prompt, MAX_PROMPT_CHARS)
        model, guesses = await asyncio.wrap_future(self.service.submit(self._guess, asked))
        return _sent(json.dumps(self._head(asked, model)), f"g{guesses}", "end")

    def _guess(self, asked: Asked) -> tuple[LanguageModel, str]:
        model = self.service.get(asked.model)
        ids = torch.tensor(model.tokenizer.encode(asked.prompt))
        if len(ids) < 2:
            return model, ""
        none = [0.0] * (len(ids) - 1)
        return model, encode_guesses(logits_of(model, ids).numpy(), ids[1:].numpy(), none, none)

    def _head(self, asked: Asked, model: LanguageModel) -> dict[str, Any]:
        """Who writes. A link names a shared model by its name, a visitor's own by its title: its name is a
        secret."""
        info = self.service.info(asked.model)
        shared = self.service.shared_name(asked.model)
        return {
            "title": info.title,
            "link": {"model": shared} if shared else {"own": info.title},
            "vocab": model.tokenizer.vocab,
            "block_size": model.config.block_size,
        }


def _answering(
    kind: type[T], answer: Callable[[T, str], Awaitable[AsyncIterator[str]]]
) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint that answers what is asked with lines, or refuses it with a sentence."""

    async def endpoint(request: Request) -> Response:
        try:
            asked = kind.model_validate_json(await request.body())
            lines = await answer(asked, client_of(request.client.host if request.client else ""))
        except ValidationError as error:
            return refusal(400, mistake(error))
        except UnknownCharacterError as error:
            return JSONResponse({"error": str(error), "unknown": error.chars}, 422)
        except CharlmError as error:
            return refusal(400, str(error))
        return StreamingResponse(lines, media_type="text/plain; charset=utf-8", headers=UNBUFFERED)

    return endpoint


async def _lines(head: dict[str, Any], stream: Stream) -> AsyncIterator[str]:
    try:
        yield json.dumps(head) + "\n"
        async for (news,) in follow([stream], SECONDS_BETWEEN_PIECES):
            if news.place:
                yield f"w{news.place}\n"
            if news.steps:
                yield f"g{encode(news.steps)}\n"
        yield "end\n"
    except CharlmError as error:
        yield f"e{error}\n"
    finally:
        stream.close()


async def _sent(*lines: str) -> AsyncIterator[str]:
    for line in lines:
        yield line + "\n"
