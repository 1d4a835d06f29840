"""The path of one character through a model: parts, shapes, and the guess after each layer."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from charlm.engine.sampling import next_char_probs
from charlm.models import LanguageModel, Transformer, gpt, transformer
from charlm.models.attention import AttentionLanguageModel, SelfAttention
from charlm.models.gpt import GPT, MLP
from charlm.models.trace import AttentionModel, trace
from charlm.surgery import edits as surgery
from charlm.ui.texts import PART_NAMES, readable

TOP = 6
MOST_CHANGES = 3
"""How many changes of one part are told one by one."""
SHOWN = 7
"""Of how many characters at most the bars of several distributions tell,"""
ALWAYS_SHOWN = 3
"""and of how many even if they are unlikely in all of them."""
UNLIKELY = 0.01

POSITIONS = {
    "rotary": "The row says which character it is, not where it stands: positions come in where heads "
    "compare characters (rotary positions).",
    "learned": "Where the character stands is in the row from the start: each place in the block has learned "
    "channels of its own, which are added.",
    "none": "Nothing says where a character stands: this model has no positions.",
}
"""How a model knows the order of characters."""
NO_MASK = (
    "It has no mask: when it learned, every character saw what comes next, and when it writes there is "
    "nothing to see."
)


def code(model: LanguageModel) -> str:
    """The PyTorch that takes a text through `model`, as it stands in the source: the model's parts, the guess
    on the way, and what is cut off in the end."""
    parts: list[Any] = [type(model), lens, next_char_probs]
    if isinstance(model, AttentionModel):
        parts = [*_building_blocks(model), type(model), trace, *parts[1:]]
    return "\n\n".join(inspect.getsource(part) for part in parts)


def _building_blocks(model: AttentionModel) -> list[Any]:
    """The classes and functions that a layer of `model` is made of, the innermost first."""
    if isinstance(model, GPT):
        return [MLP, gpt.Block]
    if isinstance(model, Transformer):
        layer: Any = model.layers[0]
        mlp = [MLP] + [type(layer.mlp)] * (type(layer.mlp) is not MLP)
        return [*(mlp if layer.mlp else []), layer.join, transformer.Block]
    return [SelfAttention]


def story(model: LanguageModel) -> list[str]:
    """What happens to the last character of a text in `model`, and how far a guess on the way can be
    trusted."""
    if not isinstance(model, AttentionModel):
        return [
            "The last character picks a row of the table, and that row is the guess. Nothing else is read."
        ]
    parts = model.config.parts
    cheats = "" if parts.causal else f" {NO_MASK}"
    if parts.residual:
        return [
            "The last character becomes a row of channels, and every block adds to that row (residual "
            f"connections). {POSITIONS[parts.positions]}{cheats}",
            "Above, the row is read after each block as if it were the last one (a “logit lens”). Only the "
            "last row was trained to be read. An earlier one gives a hint of where the guess is heading, no "
            "more, and after the first blocks often not even that.",
        ]
    return [
        "The last character becomes a row of channels, and each layer replaces that row by its answer: this "
        f"model has no residual connections that would keep it. {POSITIONS[parts.positions]}{cheats}",
        "So only the row that leaves the last layer can be read as a guess. An earlier one is written "
        "for the next layer, in channels of its own.",
    ]


def layer_name(model: AttentionModel) -> str:
    """What a layer of `model` is called: a block, if it has an MLP."""
    return "layer" if model.config.parts.mlp == "none" else "block"


def parts(model: LanguageModel, T: int) -> list[dict[str, Any]]:
    """The parts of `model` in the order a character meets them, each with its `name`, what it does,
    the shape of what leaves it for B = 1, its parameters, whether it `adds` to what entered it, whether
    it is `read`: whether what leaves it has an entry in `lens`, and which `layer` it is, if it is one. The
    parameters of all parts sum to the model's.
    """
    if isinstance(model, AttentionModel):
        return [_characters(T), _embedding(model, T), *_layers(model, T), _logits(model, T)]
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
    parts = model.config.parts
    if parts.positions == "learned":
        does += ", and one for its place in the block, added up"
    return _part("Embedding", does, shape, model.embedding, read=parts.residual)


def _layers(model: AttentionModel, T: int) -> list[dict[str, Any]]:
    shape, parts, n_layer = (1, T, model.config.n_embd), model.config.parts, model.config.n_layer
    name, does = layer_name(model).capitalize(), _describe_layer(model)
    return [
        _part(
            f"{name} {i}",
            does,
            shape,
            layer,
            adds=parts.residual,
            read=parts.residual or i == n_layer,
            layer=i,
        )
        for i, layer in enumerate(model.layers, start=1)
    ]


def _describe_layer(model: AttentionModel) -> str:
    """What every layer of `model` does with a row of channels."""
    parts, C = model.config.parts, model.config.n_embd
    norm = [PART_NAMES[parts.norm]] if parts.norm in PART_NAMES else []
    heads = _describe_heads(model) + (" with QK-norm" if parts.qk_norm else "")
    steps = [*norm, heads, *(["projection"] if parts.projection else [])]
    if len(steps) == 1 and parts.mlp == "none":
        return f"{heads} {'add to' if parts.residual else 'replace'} the row"
    joins = "adds to the row" if parts.residual else "replaces the row"
    does = f"attention ({', '.join(steps)}) {joins}"
    if parts.mlp == "none":
        return does
    steps = [*norm, f"to {4 * C} channels", PART_NAMES[parts.mlp], f"back to {C}"]
    return f"{does}, then an MLP ({', '.join(steps)}) {joins.replace('the row', 'it')}"


def _logits(model: AttentionModel, T: int) -> dict[str, Any]:
    does = "a score for every character"
    norm = model.config.parts.norm
    if norm in PART_NAMES:
        does = f"{PART_NAMES[norm]}, then {does}"
    modules = [model.lm_head] if isinstance(model, AttentionLanguageModel) else [model.norm, model.lm_head]
    return _part("Logits", does, (1, T, model.config.vocab_size), *modules)


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
    if not isinstance(model, AttentionModel) or not model.config.parts.residual:
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
    has_mlp = isinstance(model, AttentionModel) and model.config.parts.mlp != "none"
    names = {"attention": "attention"} | ({"MLP": "mlp"} if has_mlp else {})
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
