"""What a link may ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from charlm.engine.sampling import MAX_SEED
from charlm.service.limits import MAX_NAME_CHARS, MAX_NEW_CHARS, MAX_PROMPT_CHARS, MAX_SAMPLES

MAX_TOP_K = 65
LINKED: dict[str, tuple[Callable[[str], float], float, float]] = {
    "temperature": (float, 0, 2),
    "top_k": (int, 0, MAX_TOP_K),
    "top_p": (float, 0.05, 1),
    "length": (int, 1, MAX_NEW_CHARS),
    "seed": (int, 0, MAX_SEED),
    "samples": (int, 1, MAX_SAMPLES),
}
"""What a link may set besides prompt and model: the type of each, its least and its greatest value."""


def asked_by_link(
    query: Mapping[str, str], is_shared: Callable[[str], object]
) -> tuple[dict[str, Any], list[str]]:
    """The prompt, the model and the settings that a link asks for, without what makes no sense, and a note
    on a model that, as `is_shared` tells, not everybody can ask for."""
    asked: dict[str, Any] = {}
    notes = []
    own, model = query.get("own", ""), query.get("model", "")
    if is_shared(query.get("rival", "")):
        asked["rival"] = query["rival"]
    if is_shared(model) and not own:
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
