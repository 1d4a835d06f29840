"""What the text view shows, and what a link may ask for."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from charlm.engine.sampling import MAX_SEED, Step
from charlm.service.batching import News
from charlm.service.limits import MAX_NAME_CHARS, MAX_NEW_CHARS, MAX_PROMPT_CHARS

MAX_TOP_K = 65
SHOWN_ALTERNATIVES = 10
LINKED: dict[str, tuple[Callable[[str], float], float, float]] = {
    "temperature": (float, 0, 2),
    "top_k": (int, 0, MAX_TOP_K),
    "top_p": (float, 0.05, 1),
    "length": (int, 1, MAX_NEW_CHARS),
    "seed": (int, 0, MAX_SEED),
}
"""What a link may set besides prompt and model: the type of each, its least and its greatest value."""


class Continuation:
    """What the text view shows of one model's work, growing at its end only.

    `steps` has a line of JSON for each character: itself, its probability, the likeliest
    alternatives and how many more there were. Gradio sends only what a string has grown by.
    `link` is how a link names the model: a shared one by its name, a visitor's own by its title, for its
    name is a secret.
    """

    def __init__(self, model: str, title: str, shared: bool, prompt: str, settings: dict[str, float]):
        self.began = time.perf_counter()
        self.value: dict[str, Any] = {
            "id": secrets.token_hex(8),
            "model": model,
            "title": title,
            "link": {"model": model} if shared else {"own": title},
            "prompt": prompt,
            "settings": settings,
            "steps": "",
            "place": 0,
            "done": False,
            "seconds": 0.0,
        }

    def add(self, news: News) -> None:
        """Takes note of what has happened."""
        self.value |= {"place": news.place, "done": news.done}
        if news.steps:
            self.value["steps"] += "".join(map(_line, news.steps))
            self.value["seconds"] = round(time.perf_counter() - self.began, 2)


def _line(step: Step) -> str:
    likeliest = [[char, round(p, 4)] for char, p in step.alternatives[:SHOWN_ALTERNATIVES]]
    more = len(step.alternatives) - len(likeliest)
    return json.dumps([step.char, round(step.prob, 4), likeliest, more]) + "\n"


def text_of(written: dict[str, Any] | None) -> str:
    """The prompt and all that was written, from the value of a text view."""
    if not written:
        return ""
    return written["prompt"] + "".join(json.loads(line)[0] for line in written["steps"].splitlines())


def asked_by_link(query: Mapping[str, str], shared: Collection[str]) -> tuple[dict[str, Any], list[str]]:
    """The prompt, the model and the settings that a link asks for, without what makes no sense, and a note
    on a model that is not one of the `shared` ones."""
    asked: dict[str, Any] = {}
    notes = []
    own, model = query.get("own", ""), query.get("model", "")
    if model in shared and not own:
        asked["model"] = model
    elif title := (own or model)[:MAX_NAME_CHARS]:
        notes.append(
            f"This link asks for the model “{title}”, which it does not bring along: "
            "choose another and press Generate, or bring that one back on the Train tab."
        )
    if "prompt" in query:
        asked["prompt"] = query["prompt"][:MAX_PROMPT_CHARS]
    for name, (kind, least, most) in LINKED.items():
        try:
            value = kind(query[name])
        except (KeyError, ValueError):
            continue
        if least <= value <= most:
            asked[name] = value
    return asked, notes
