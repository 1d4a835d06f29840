"""The path of one character through a model: parts, shapes, and the guess after each layer."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from charlm.engine.sampling import next_char_probs
from charlm.models import GPT, LanguageModel
from charlm.models.attention import SelfAttention
from charlm.models.gpt import MLP, Block
from charlm.models.trace import AttentionModel, trace
from charlm.surgery import edits as surgery
from charlm.ui.texts import readable

TOP = 6
MOST_CHANGES = 3
"""How many changes of one part are told one by one."""
SHOWN = 7
"""Of how many characters at most the bars of several distributions tell,"""
ALWAYS_SHOWN = 3
"""and of how many even if they are unlikely in all of them."""
UNLIKELY = 0.01


def code(model: LanguageModel) -> str:
    """The PyTorch that takes a text through `model`, as it stands in the source: the model's parts, the guess
    on the way, and what is cut off in the end."""
    parts: list[Any] = [type(model), lens, next_char_probs]
    if isinstance(model, GPT):
        parts = [MLP, Block, GPT, trace, *parts[1:]]
    elif isinstance(model, AttentionModel):
        parts = [SelfAttention, type(model), trace, *parts[1:]]
    return "\n\n".join(inspect.getsource(part) for part in parts)


def story(model: LanguageModel) -> list[str]:
    """What happens to the last character of a text in `model`, and how far a guess on the way can be
    trusted."""
    if isinstance(model, GPT):
        return [
            "The last character becomes a row of channels, and every block adds to that row (residual "
            "connections). The row says which character it is, not where it stands: positions come in where "
            "heads compare characters (rotary positions).",
            "Above, the row is read after each block as if it were the last one (a “logit lens”). Only the "
            "last row was trained to be read. An earlier one gives a hint of where the guess is heading, no "
            "more, and after the first blocks often not even that.",
        ]
    if isinstance(model, AttentionModel):
        return [
            "The last character becomes a row of channels, and each layer replaces that row by what its "
            "heads bring from the text: this model has no residual connections that would keep it. Positions "
            "come in where heads compare characters (rotary positions).",
            "So only the row that leaves the last layer can be read as a guess. An earlier one is written "
            "for the next layer, in channels of its own.",
        ]
    return ["The last character picks a row of the table, and that row is the guess. Nothing else is read."]


def parts(model: LanguageModel, T: int) -> list[dict[str, Any]]:
    """The parts of `model` in the order a character meets them, each with its `name`, what it does,
    the shape of what leaves it for B = 1, its parameters, whether it `adds` to what entered it, whether
    it is `read`: whether what leaves it has an entry in `lens`, and which `layer` it is, if it is one. The
    parameters of all parts sum to the model's.
    """
    if isinstance(model, GPT):
        return [_characters(T), _embedding(model, T), *_blocks(model, T), _logits(model, T)]
    if isinstance(model, AttentionModel):
        return [_characters(T), _embedding(model, T), *_heads(model, T), _logits(model, T)]
    shape = (1, T, model.config.vocab_size)
    return [_characters(T), _part("Table", "the row of the last character", shape, model, read=True)]


def _part(
    name: str,
    does: str,
    shape: tuple[int, ...],
    *modules: nn.Module,
    adds: bool = False,
    read: bool = False,
    layer: int | None = None,
) -> dict[str, Any]:
    parameters = sum(p.numel() for module in modules for p in module.parameters())
    return {
        "name": name,
        "does": does,
        "shape": list(shape),
        "parameters": parameters,
        "adds": adds,
        "read": read,
        "layer": layer,
    }


def _characters(T: int) -> dict[str, Any]:
    return _part("Characters", "one id each", (1, T))


def _embedding(model: AttentionModel, T: int) -> dict[str, Any]:
    does, shape = "a row of channels for each character", (1, T, model.config.n_embd)
    return _part("Embedding", does, shape, model.embedding, read=isinstance(model, GPT))


def _heads(model: AttentionModel, T: int) -> list[dict[str, Any]]:
    shape, n_layer = (1, T, model.config.n_embd), model.config.n_layer
    does = f"{_describe_heads(model)} replace the row"
    return [
        _part(f"Layer {i}", does, shape, layer, read=i == n_layer, layer=i)
        for i, layer in enumerate(model.layers, start=1)
    ]


def _blocks(model: GPT, T: int) -> list[dict[str, Any]]:
    C = model.config.n_embd
    does = (
        f"attention (RMSNorm, {_describe_heads(model)} with QK-norm, projection) adds to the row, "
        f"then an MLP (RMSNorm, to {4 * C} channels, ReLU², back to {C}) adds to it"
    )
    return [
        _part(f"Block {i}", does, (1, T, C), block, adds=True, read=True, layer=i)
        for i, block in enumerate(model.layers, start=1)
    ]


def _logits(model: AttentionModel, T: int) -> dict[str, Any]:
    does = "a score for every character"
    if isinstance(model, GPT):
        does = f"RMSNorm, then {does}"
    return _part("Logits", does, (1, T, model.config.vocab_size), model.lm_head)


def _describe_heads(model: AttentionModel) -> str:
    n = model.config.n_head
    return f"{n} head{'s' if n > 1 else ''} of {model.config.head_size} channels"


@torch.no_grad()
def lens(model: LanguageModel, text: str, behind: int = 0) -> tuple[str, list[Tensor], list[str]]:
    """The part of `text` that was read, the logits (vocab_size,) of the character that follows one of it,
    as they stand after the embedding and after each block, and notes on what was left out. The one is the
    last but `behind`.

    A model without residual connections has but one entry, its answer: what leaves an earlier part of it is
    in no channels that `unembed` knows. Raises `CharlmError` if nothing of the text can be read.
    """
    text, notes = readable(model, text)
    idx = torch.tensor([model.tokenizer.encode(text)])
    place = place_of(text, behind)
    if not isinstance(model, GPT):
        return text, [model(idx)[0][0, place]], notes
    return text, [model.unembed(x[0, place]) for x in trace(model, idx).residual], notes


def place_of(text: str, behind: int) -> int:
    """The place of the character of `text` that has `behind` others behind it: the last if none has."""
    return len(text) - 1 - (behind if 0 <= behind < len(text) else 0)


def came(model: LanguageModel, text: str, behind: int, logits: Tensor) -> dict[str, Any] | None:
    """The `char` that follows in `text` the one with `behind` others behind it, and its probability `p` by
    logits (vocab_size,); None at the end."""
    following = text[place_of(text, behind) + 1 :]
    if not following:
        return None
    probs = next_char_probs(logits)
    return {"char": following[0], "p": probs[model.tokenizer.encode(following[0])[0]].item()}


def guesses(model: LanguageModel, logits: list[Tensor]) -> list[list[dict[str, Any]]]:
    """For each entry of `lens`, the likeliest next characters: each `char` with its probability `p`, which is
    e^`score` / e^`total`."""
    result = []
    for row in logits:
        scores, ids = row.topk(min(TOP, len(row)))
        total = row.logsumexp(0)
        chars = (model.tokenizer.vocab[i] for i in ids.tolist())
        rows = zip(chars, (scores - total).exp().tolist(), scores.tolist(), strict=True)
        result.append([{"char": c, "p": p, "score": s, "total": total.item()} for c, p, s in rows])
    return result


def path(
    model: LanguageModel, T: int, logits: list[Tensor], before: list[Tensor] | None = None, edits: str = ""
) -> list[dict[str, Any]]:
    """The `parts`, each that is read with its `guesses` from the `logits` of `lens`; a layer with its
    `switches`, and what `edits` `changes` of it, in words.

    `before` are the logits of the model without `edits`: a part of which they make other guesses has a
    `shift`, and what was `guessed` before.
    """
    following = iter(guesses(model, logits))
    earlier = iter(zip(shifts(model, before, logits), guesses(model, before), strict=True) if before else ())
    changes = changed(edits)
    found = []
    for part in parts(model, T):
        shift, guessed = next(earlier, (None, [])) if part["read"] else (None, [])
        found.append(
            part
            | {
                "guesses": next(following) if part["read"] else [],
                "shift": shift,
                "guessed": guessed if shift else [],
                "changes": changes.get(part["layer"], []),
                "switches": switches(model, part["layer"], edits) if part["layer"] else [],
            }
        )
    return found


def shifts(model: LanguageModel, before: list[Tensor], after: list[Tensor]) -> list[dict[str, Any] | None]:
    """For each entry of `lens`, the likeliest `char` before, with its probability `before` and `after`; None
    where hardly anything moved: less than a thousandth of the probability, of all characters together."""
    found: list[dict[str, Any] | None] = []
    for old, new in zip(before, after, strict=True):
        p, q = old.softmax(0), new.softmax(0)
        best = int(p.argmax())
        moved = ((p - q).abs().sum() / 2).item() >= 0.001
        shift = {"char": model.tokenizer.vocab[best], "before": p[best].item(), "after": q[best].item()}
        found.append(shift if moved else None)
    return found


def changed(edits: str) -> dict[int, list[str]]:
    """By layer, what `edits` make of its parts, in words; of many, the first.

    Raises `CharlmError` for what `surgery.edits.parse` cannot read.
    """
    found: dict[int, list[str]] = {}
    for edit in surgery.merge(surgery.parse(edits)):
        found.setdefault(edit.layer, []).append(_in_words(edit))
    for words in found.values():
        more = len(words) - MOST_CHANGES
        if more > 0:
            words[MOST_CHANGES:] = [f"{more} more"]
    return found


def _in_words(edit: surgery.Edit) -> str:
    _, *part = edit.part.split(".")
    name = {"attention": "attention", "mlp": "MLP"}.get(part[-1])
    if name is None:
        name = f"{'neuron' if len(part) > 1 else 'head'} {part[-1]}"
    return f"{name} {edit.setting.replace('x', '×')}"


def switches(model: LanguageModel, layer: int, edits: str) -> list[dict[str, Any]]:
    """What can be switched off of a layer as a whole: its `name`, the `part` as an edit names it, and whether
    it is `on` with `edits`."""
    found = {edit.part: edit.setting for edit in surgery.parse(edits)}
    names = {"attention": "attention"} | ({"MLP": "mlp"} if isinstance(model, GPT) else {})
    parts = {name: f"{layer}.{part}" for name, part in names.items()}
    return [{"name": name, "part": part, "on": found.get(part) != "off"} for name, part in parts.items()]


def candidates(
    model: LanguageModel, logits: Tensor, temperature: float, top_k: int | None, top_p: float | None
) -> list[dict[str, Any]]:
    """Every next character, the likeliest first: `before`, its probability at this temperature with
    nothing cut off, and `after`, with top-k and top-p; 0 is cut off."""
    before = next_char_probs(logits, temperature)
    after = next_char_probs(logits, temperature, top_k, top_p)
    order = logits.argsort(descending=True, stable=True).tolist()
    return [
        {"char": model.tokenizer.vocab[i], "before": before[i].item(), "after": after[i].item()}
        for i in order
    ]


def distributions(model: LanguageModel, *probs: Tensor) -> list[dict[str, Any]]:
    """The characters to which one of several distributions (vocab_size,) gives most, the likeliest first:
    each `char` with its probability in every one, `ps`."""
    stacked = torch.stack(probs)
    most = stacked.amax(0)
    ids = most.topk(min(SHOWN, len(most))).indices.tolist()
    shown = [i for k, i in enumerate(ids) if k < ALWAYS_SHOWN or most[i] >= UNLIKELY]
    return [{"char": model.tokenizer.vocab[i], "ps": stacked[:, i].tolist()} for i in shown]
