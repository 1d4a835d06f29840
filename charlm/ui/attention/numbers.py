"""Which character looks at which: every layer and head of a trained model on a text."""

from __future__ import annotations

import inspect
import secrets
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from charlm.errors import CharlmError
from charlm.models import LanguageModel
from charlm.models.attention import SelfAttention, mask_future
from charlm.models.gpt import CausalSelfAttention
from charlm.models.rotary import angles, frequencies, rotate
from charlm.models.trace import AttentionModel, Trace, attention_of, trace
from charlm.surgery.atlas import CLEAR, EVEN
from charlm.surgery.hooks import AttentionCell, trace_with
from charlm.ui.encoding import base64_of
from charlm.ui.texts import readable

TILE_SIZE = 48
GUESSES = 3
BARS = 5
"""How many of the likeliest characters are shown before and after a weight is set."""
AVERAGE = -1
"""The layer that stands for the average of all heads."""

PLACES = {"itself": 0, "one character back": 1, "two characters back": 2, "three characters back": 3}
"""Where a head may look, by how far back that is."""
FIRST = "the first character"
AHEAD = "one character ahead"
"""Where a head looks that cheats: only without a mask is there anything to see."""

POSITIONS = {
    "rotary": (
        "Rotary positions",
        "The model has no table of positions. Each head turns query and key, pair of channels by pair, by an "
        "angle that grows with the character's position. So q·k depends on how far apart two characters "
        "stand. Only this and the mask tell their order.",
    ),
    "learned": (
        "Learned positions",
        "Each place in the block has a learned row of channels, which is added to that of the character "
        "before the first layer. So q·k may depend on both places.",
    ),
    "none": (
        "No positions",
        "Nothing says where a character stands: a head cannot tell a character from the same one further "
        "back. Only the mask tells something of their order.",
    ),
}
NOT_SCALED = (
    "q·k is not divided by √d, so that large scores make a head choose one character and ignore the rest."
)
NO_MASK = (
    "No mask",
    "Every character sees those that follow, too. When the model learned, it could copy the answer from the "
    "next character; when it writes, there is none yet.",
)


@dataclass(frozen=True)
class AttentionMaps:
    """`weights` and raw `scores` of every head, (n_layer, n_head, T, T), for the characters `text`.

    `notes` say what had to be changed for the text to be shown, and `left_out` is how many characters that
    the model knows stand before it. Without the mask, the model is not `causal`.
    """

    text: str
    weights: Tensor
    scores: Tensor
    notes: list[str]
    left_out: int
    causal: bool

    def check_head(self, layer: int, head: int) -> None:
        """Raises `CharlmError` for a head that the model lacks."""
        n_layer, n_head = self.weights.shape[:2]
        if not (0 <= layer < n_layer and 0 <= head < n_head):
            raise CharlmError(
                f"The model has layers 0 to {n_layer - 1} and heads 0 to {n_head - 1}, "
                f"and no head {head} in layer {layer}."
            )


def explain(model: LanguageModel, text: str) -> AttentionMaps:
    """The attention of `model` over the end of `text`, at most block_size characters.

    Raises `CharlmError` for a model without attention, or a text of which nothing can be shown.
    """
    model = _attentive(model)
    known = model.tokenizer.replace_unknown(text)
    text, notes = readable(model, text)
    traced = trace(model, torch.tensor([model.tokenizer.encode(text)]))
    left_out = len(known) - len(text)
    causal = model.config.parts.causal
    return AttentionMaps(text, traced.weights[:, 0], traced.scores[:, 0], notes, left_out, causal)


def _attentive(model: LanguageModel) -> AttentionModel:
    if not isinstance(model, AttentionModel):
        raise CharlmError("This model has no attention: it looks at one character only.")
    return model


def code(model: LanguageModel) -> str:
    """The PyTorch by which `model` computes its maps, as it stands in the source.

    Raises `CharlmError` for a model without attention.
    """
    heads = (
        (SelfAttention, CausalSelfAttention) if _attentive(model).config.parts.qk_norm else (SelfAttention,)
    )
    parts = (frequencies, angles, rotate, *heads, mask_future, Trace, trace)
    return "\n\n".join(inspect.getsource(part) for part in parts)


def principles(model: LanguageModel) -> list[tuple[str, str]]:
    """What goes into a score of `model`, as a term and a sentence on it each.

    Raises `CharlmError` for a model without attention.
    """
    config = _attentive(model).config
    parts, d = config.parts, config.head_size
    size = f"q·k is divided by √{d}, the root of a head's channels." if parts.scaled else NOT_SCALED
    found = [POSITIONS[parts.positions]]
    if parts.qk_norm:
        norm = (
            f"Query and key are first scaled to one length, √{d}, so that only their directions count. "
            f"The query is then multiplied by the head's gain, a learned number: the larger, the sharper the "
            f"head chooses. {size}{f' So no score is beyond gain · √{d}.' if parts.scaled else ''}"
        )
        found.append(("QK-norm and gain", norm))
    else:
        found.append(("No QK-norm", f"Query and key are compared as they are. {size}"))
    return found if parts.causal else [*found, NO_MASK]


def gains(model: LanguageModel) -> list[float] | None:
    """The gain of every head, layer by layer; None if the heads of `model` have none."""
    model = _attentive(model)
    if not model.config.parts.qk_norm:
        return None
    heads: list[Any] = [attention_of(layer) for layer in model.layers]
    return [gain for layer in heads for gain in layer.gain.flatten().tolist()]


def habits(weights: Tensor, causal: bool = True) -> list[tuple[str, float | None]]:
    """What each of the heads with `weights` (n, T, T), with a mask if they are `causal`, does on this text,
    with its mean weight on the place where it looks, if there is one.

    The first row is left out, in which there is no choice. As in the atlas, a head looks at a place if its
    weight there is clearly more than that of a head that spreads evenly.
    """
    n, T, _ = weights.shape
    if T == 1:
        return [("looks at itself", 1.0)] * n
    rows = torch.arange(T, device=weights.device)
    seen = torch.ones_like(weights[0]).tril(0 if causal else T)
    even = seen / seen.sum(1, keepdim=True)
    looks = _mean_weights(torch.cat((weights, even[None])), causal)
    names = list(looks)
    means = torch.stack(list(looks.values()))
    chance = means[:, -1:]
    clear, which = ((means[:, :-1] - chance) / (1 - chance)).max(0)
    most = means.gather(0, which[None])[0]
    evenness = (torch.special.entr(weights).sum(2)[:, 1:] / seen.sum(1)[1:].log()).mean(1)
    distance = (weights * (rows[:, None] - rows).abs()).sum(2)[:, 1:].mean(1)
    return [
        _habit(names[place], weight, above, spread, f"{far:.0f} characters {'back' if causal else 'away'}")
        for place, weight, above, spread, far in zip(
            *(values.tolist() for values in (which, most, clear, evenness, distance)), strict=True
        )
    ]


def _mean_weights(weights: Tensor, causal: bool) -> dict[str, Tensor]:
    """By place, the mean weight (n,) that heads with `weights` (n, T, T) put there."""
    T = weights.shape[-1]
    looks = {
        place: weights.diagonal(-back, 1, 2)[:, 0 if back else 1 :].mean(1)
        for place, back in PLACES.items()
        if back < T
    }
    if not causal:
        looks[AHEAD] = weights.diagonal(1, 1, 2).mean(1)
    if len(PLACES) < T:
        # Only where the first character is none of the other places.
        looks[FIRST] = weights[:, len(PLACES) :, 0].mean(1)
    return looks


def _habit(place: str, weight: float, above: float, spread: float, distance: str) -> tuple[str, float | None]:
    if spread >= EVEN:
        return "spreads evenly", None
    if above >= CLEAR:
        return f"looks {place}" if place.endswith(("back", "ahead")) else f"looks at {place}", weight
    return f"looks at several places, {distance} on average", None


def telling_head(weights: Tensor, causal: bool = True) -> tuple[int, int]:
    """The layer and the head, of weights (n_layer, n_head, T, T), with the largest mean weight on the
    character before; on the one ahead, if there is no mask to hide it."""
    _, n_head, T, _ = weights.shape
    if T == 1:
        return 0, 0
    return divmod(int(weights.diagonal(-1 if causal else 1, 2, 3).mean(2).argmax()), n_head)


@torch.no_grad()
def without(model: LanguageModel, text: str, i: int) -> dict[str, Any]:
    """What `model` makes of `text`, at most block_size characters that it knows, with and without the i-th
    of them: its `guesses` at what comes at the end, the likeliest as (character, probability), and the
    `loss` of the characters after the i-th, in nats per character, None if there are none.

    Raises `CharlmError` if there is no such character, or no other.
    """
    if len(text) < 2 or not 0 <= i < len(text):
        raise CharlmError("A text of two characters or more can do without one of its own.")
    return {
        name: _guess_and_loss(model, ids, start)
        for name, ids, start in (
            ("with", model.tokenizer.encode(text), i + 1),
            ("without", model.tokenizer.encode(text[:i] + text[i + 1 :]), i),
        )
    }


def _guess_and_loss(model: LanguageModel, ids: list[int], start: int) -> dict[str, Any]:
    """The likeliest characters at the end of `ids`, and the mean loss of those from `start` on, the first
    of all aside."""
    idx = torch.tensor([ids])
    log_probs = model(idx)[0][0].log_softmax(-1)
    top = log_probs[-1].exp().topk(min(GUESSES, log_probs.shape[-1]))
    guesses = [
        (model.tokenizer.vocab[c], p) for c, p in zip(top.indices.tolist(), top.values.tolist(), strict=True)
    ]
    places = torch.arange(max(1, start), len(ids))
    losses = -log_probs[places - 1, idx[0, places]]
    return {"guesses": guesses, "loss": losses.mean().item() if len(places) else None}


@torch.no_grad()
def with_weight(
    model: LanguageModel, text: str, layer: int, head: int, row: int, column: int, weight: float
) -> dict[str, Any]:
    """What becomes of the `row` of a head's map, (row + 1) float32 weights, if the one in `column` is set to
    `weight`; and what `model` expects after that character `before` and `after`: the likeliest characters of
    either as (character, probability before, probability after), the likeliest first.

    All are numbered from 0. Raises `CharlmError` for a head or a character that is not there, or a weight
    that is not from 0 to 1.
    """
    model = _attentive(model)
    cell = AttentionCell(layer + 1, head + 1, row, column, weight)
    idx = torch.tensor([model.tokenizer.encode(text)[: row + 1]])
    run = trace_with(model, idx, [cell])
    before, after = (
        logits.softmax(-1) for logits in (model(idx)[0][0, -1], model.unembed(run.residual[-1])[0, -1])
    )
    most = min(BARS, len(before))
    shown = {*before.topk(most).indices.tolist(), *after.topk(most).indices.tolist()}
    guesses = [(model.tokenizer.vocab[c], before[c].item(), after[c].item()) for c in shown]
    guesses.sort(key=lambda guess: -max(guess[1:]))
    return {"row": base64_of(run.weights[layer, 0, head, row]), "guesses": guesses}


def overview(model: LanguageModel, maps: AttentionMaps) -> dict[str, Any]:
    """What the page draws at first, of heads as they were learned: the text, what goes into a score, and
    which head to open."""
    _, n_head, T, _ = maps.weights.shape
    return {
        "id": secrets.token_hex(8),
        "text": maps.text,
        "left_out": maps.left_out,
        "principles": principles(model),
        "opens": telling_head(maps.weights, maps.causal),
        "gains": gains(model),
        "causal": maps.causal,
        "scaled": _attentive(model).config.parts.scaled,
        "head_size": model.config.head_size,
        "n_layer": len(maps.weights),
        "n_head": n_head,
        "tile_size": min(T, TILE_SIZE),
    }


def tiles(maps: AttentionMaps) -> dict[str, Any]:
    """A small picture of every head, as bytes from 0 to 255, the average before them, and what each does."""
    everything = torch.cat((maps.weights.mean((0, 1))[None], maps.weights.flatten(0, 1)))
    does = habits(everything, maps.causal)
    if len(maps.text) > TILE_SIZE:
        # A tile shows the largest weight of each patch: an average would hide a thin line.
        everything = torch.nn.functional.adaptive_max_pool2d(everything, TILE_SIZE)
    return {"does": does, "tiles": [base64_of((255 * tile).round().to(torch.uint8)) for tile in everything]}


def one_head(maps: AttentionMaps, layer: int, head: int) -> dict[str, str | None]:
    """The (T, T) float32 weights and raw scores of a head. The layer `AVERAGE` is the average of all
    heads, which has no scores.

    Raises `CharlmError` for a head that the model lacks.
    """
    if layer == AVERAGE:
        return {"weights": base64_of(maps.weights.mean((0, 1))), "scores": None}
    maps.check_head(layer, head)
    return {
        "weights": base64_of(maps.weights[layer, head]),
        "scores": base64_of(maps.scores[layer, head]),
    }


def compact(maps: AttentionMaps, layer: int, head: int) -> dict[str, Any]:
    """A head's maps for programs: the characters `text`, and `weights` and `scores` as (T, T) float16
    numbers, row by row and each with its low byte first, in base64.

    Raises `CharlmError` for a head that the model lacks.
    """
    maps.check_head(layer, head)
    T = len(maps.text)
    weights, scores = maps.weights[layer, head].half(), maps.scores[layer, head].half()
    return {
        "text": maps.text,
        "shape": [T, T],
        "dtype": "<f2",
        "weights": base64_of(weights),
        "scores": base64_of(scores),
    }
