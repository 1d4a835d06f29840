"""The numbers behind the pictures are what the lines of PyTorch beside them give."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import make_model
from torch import nn

import charlm
from charlm.engine import sampling
from charlm.errors import CharlmError
from charlm.models import LanguageModel, build
from charlm.models import attention as attention_module
from charlm.models import gpt as gpt_module
from charlm.models import rotary as rotary_module
from charlm.models import trace as trace_module
from charlm.models.trace import trace
from charlm.tokenizer import CharTokenizer
from charlm.ui.attention import numbers as attention
from charlm.ui.averaging import numbers as averaging
from charlm.ui.inside import numbers as inside
from charlm.ui.tokens import numbers as tokens

TEXT = "First Citizen:\nBefore we proceed any further, hear me speak.\n"


def run(lines: str, **names: object) -> dict[str, object]:
    scope = {"torch": torch, "nn": nn, **names}
    with torch.random.fork_rng(), torch.no_grad():
        exec(lines, scope)
    return scope


def test_tokens_are_what_their_lines_give():
    shown = tokens.explain(TEXT, CharTokenizer.from_text(TEXT), batch_size=3, block_size=5, seed=7)
    got = run(tokens.LINES, text=TEXT, vocab=shown["vocab"], batch_size=3, block_size=5, seed=7)
    assert shown["ids"] == got["ids"].tolist()
    assert shown["n_train"] == got["n"]
    assert (shown["x"], shown["y"]) == (got["x"].tolist(), got["y"].tolist())
    assert shown["decoded"] == TEXT
    assert shown["notes"] == []


def test_a_row_of_the_batch_begins_where_it_says():
    shown = tokens.explain(TEXT, CharTokenizer.from_text(TEXT), batch_size=3, block_size=5, seed=7)
    assert [shown["ids"][start : start + 5] for start in shown["starts"]] == shown["x"]


@pytest.mark.parametrize(
    ("text", "merges", "pieces"),
    [
        ("", 9, []),
        ("to be, to be", 0, list("to be, to be")),
        ("aaaa a\n", 1, ["aa", "aa", " ", "a", "\n"]),
        ("low low lower", 3, ["low", " low", " low", "e", "r"]),
        ("low low lower", 99, ["low", " low", " low", "e", "r"]),
    ],
)
def test_pairs_that_are_frequent_become_one_token(text: str, merges: int, pieces: list[str]):
    assert tokens.word_pieces(text, merges) == pieces


def test_the_unrolled_chunk_of_the_lecture():
    shakespeare = charlm.load("bigram").tokenizer
    chunk = tokens.explain(TEXT, shakespeare, 4, 8, 1337)["chunk"]
    assert chunk[0] == [[18], 47]
    assert chunk[1] == [[18, 47], 56]
    assert len(chunk) == 8


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("", "at least two"),
        ("F", "at least two"),
        ("Fir", "2 characters: block_size is 1, not 8"),
        ("Firsté", "“é”"),
        ("F" * 3000, "the first 2,000"),
    ],
)
def test_tokens_show_the_nearest_that_can_be_shown(text: str, note: str):
    shown = tokens.explain(text, CharTokenizer.from_text(TEXT), 4, 8, 1)
    assert any(note in sentence for sentence in shown["notes"])
    assert len(shown["chunk"]) == shown["block_size"]


@pytest.mark.parametrize("version", [1, 2, 3, 4])
@pytest.mark.parametrize("T", [1, 6, 16])
def test_averages_are_what_their_code_gives(version: int, T: int):
    shown = averaging.explain(version, T, seed=3)
    got = run(averaging.code(version), Tensor=torch.Tensor, math=math)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(3)
        x = torch.randn(averaging.MAX_T, averaging.C)[:T]
        average = {1: "average_loop", 2: "average_tril", 3: "average_softmax"}
        out = got["Head"](averaging.C, averaging.C)(x) if version == 4 else got[average[version]](x[None])[0]
    assert torch.allclose(torch.tensor(shown["matrices"]["x"]), x)
    assert torch.allclose(torch.tensor(shown["matrices"]["out"]), out, atol=1e-6)
    assert max(shown["differences"].values()) < 1e-6


def test_the_product_shown_is_the_product():
    for version in (2, 3, 4):
        shown = averaging.explain(version, 5, seed=1)
        m = {name: shown["matrices"][name] for name in ("wei", shown["source"], "out")}
        product = torch.tensor(m["wei"]) @ torch.tensor(m[shown["source"]])
        assert torch.allclose(product, torch.tensor(m["out"]), atol=1e-6)


def test_timing_compares_both_versions():
    rows = averaging.time_versions([1, 8], pairs=1)
    assert [row["T"] for row in rows] == [1, 8]
    assert all(row["loop"] > 0 and row["tril"] > 0 for row in rows)


def test_attention_maps(trained: LanguageModel):
    maps = attention.explain(trained, "The sea is")
    traced = trace(trained, torch.tensor([trained.tokenizer.encode("The sea is")]))
    assert torch.equal(maps.weights, traced.weights[:, 0]) and torch.equal(maps.scores, traced.scores[:, 0])
    assert maps.weights.shape == (2, 2, 10, 10)
    assert maps.notes == []


def test_attention_shows_the_end_of_a_long_text_and_drops_unknown_characters(trained: LanguageModel):
    maps = attention.explain(trained, "é" + "The sea is blue. " * 5)
    assert maps.text == ("The sea is blue. " * 5)[-16:]
    assert len(maps.notes) == 2
    with pytest.raises(CharlmError, match="nothing to look at"):
        attention.explain(trained, "é")
    with pytest.raises(CharlmError, match="no attention"):
        attention.explain(build("bigram", trained.tokenizer, {}, seed=1), "The")


STAGES = [
    {"architecture": "gpt"},
    {"architecture": "attention", "n_layer": 1, "n_head": 1},
    {"architecture": "attention", "n_layer": 2, "n_head": 4},
]
MODULES = (charlm.models, sampling, attention_module, gpt_module, rotary_module, trace_module, inside)
NAMES = {name: value for module in MODULES for name, value in vars(module).items() if name[:2] != "__"}
"""What the code that is shown takes from elsewhere."""


@pytest.mark.parametrize("sizes", STAGES)
def test_the_scores_are_what_the_code_of_attention_gives(sizes: dict[str, object], tokenizer: CharTokenizer):
    model = make_model(tokenizer, **sizes).eval()
    got = run(attention.code(model), **NAMES)
    is_gpt = sizes["architecture"] == "gpt"
    assert ("qk_norm" in attention.code(model)) == is_gpt
    layer = model.layers[0]
    heads = got["CausalSelfAttention" if is_gpt else "SelfAttention"](16, model.config.n_head)
    heads.load_state_dict((layer.attention if is_gpt else layer).state_dict())
    x = model.embedding(torch.tensor([tokenizer.encode("The sea")]))
    cos, sin = got["angles"](torch.arange(7), model.config.head_size)
    scores = heads.scores(layer.norm(x) if is_gpt else x, cos, sin)
    maps = attention.explain(model, "The sea")
    assert torch.allclose(maps.scores[0], scores[0], atol=1e-6)
    assert torch.allclose(maps.weights[0], got["mask_future"](scores)[0].softmax(-1), atol=1e-6)


@pytest.mark.parametrize("sizes", STAGES)
def test_what_is_said_of_a_model_is_true_of_it(sizes: dict[str, object], tokenizer: CharTokenizer):
    model = make_model(tokenizer, **sizes)
    said = dict(attention.principles(model))
    is_gpt = sizes["architecture"] == "gpt"
    assert "no table of positions" in said["Rotary positions"]
    assert ("QK-norm and gain" in said) == is_gpt == (attention.gains(model) is not None)
    story = " ".join(inside.story(model))
    assert ("every block adds to that row" in story) == is_gpt
    assert ("no residual connections" in story) == (not is_gpt)
    parts = inside.parts(model, 5)
    assert any(part["adds"] for part in parts) == is_gpt
    read = [part["name"] for part in parts if part["read"]]
    assert read == (["Embedding", "Block 1", "Block 2"] if is_gpt else [f"Layer {sizes['n_layer']}"])
    assert len(inside.lens(model, "The")[1]) == len(read)


def test_gains_are_told_of_each_head_in_turn(trained: LanguageModel):
    with torch.no_grad():
        gains = [block.attention.gain[head, 0, 0].item() for block in trained.layers for head in (0, 1)]
    assert attention.gains(trained) == gains


def test_a_score_is_never_beyond_the_gain_times_the_root_of_d(trained: LanguageModel):
    scores = attention.explain(trained, TEXT).scores.flatten(2).abs().amax(2).flatten()
    bounds = torch.tensor(attention.gains(trained)).abs() * trained.config.head_size**0.5
    assert (scores <= bounds + 1e-4).all()


def one_place(T: int, place: int, back: bool) -> torch.Tensor:
    """Weights (T, T) with which every character looks at the place, or that many places back."""
    columns = (torch.arange(T) - place if back else torch.full((T,), place)).clamp_min(0)
    return nn.functional.one_hot(columns, T).float()


def test_heads_are_told_by_what_they_do():
    T = 40
    even = averaging.tril_weights(T)
    heads = [*(one_place(T, back, True) for back in range(4)), one_place(T, 0, False), even]
    half = (one_place(T, 1, True) + even) / 2
    scattered = sum(one_place(T, back, True) for back in (4, 5, 6, 7, 8)) / 5
    told = attention.habits(torch.stack([*heads, half, scattered]))
    places = ["at itself", "one character back", "two characters back", "three characters back"]
    assert told[:5] == [(f"looks {place}", 1.0) for place in [*places, "at the first character"]]
    assert told[5] == ("spreads evenly", None)
    assert told[6] == ("looks one character back", pytest.approx(half.diagonal(-1).mean().item()))
    words, weight = told[7]
    assert weight is None and "several places" in words
    assert attention.habits(torch.ones(2, 1, 1)) == [("looks at itself", 1.0)] * 2


def test_the_head_that_looks_one_character_back_is_opened():
    heads = torch.stack([one_place(6, back, True) for back in (0, 2, 3, 1, 4, 5)]).view(3, 2, 6, 6)
    assert attention.telling_head(heads) == (1, 1)
    assert attention.telling_head(torch.ones(3, 2, 1, 1)) == (0, 0)


@pytest.mark.parametrize("sizes", STAGES)
def test_the_parts_hold_all_parameters(sizes: dict[str, object], tokenizer: CharTokenizer):
    model = make_model(tokenizer, **sizes)
    assert sum(p["parameters"] for p in inside.parts(model, 5)) == model.parameter_count()
    bigram_model = build("bigram", tokenizer, {}, seed=1)
    assert sum(p["parameters"] for p in inside.parts(bigram_model, 5)) == bigram_model.parameter_count()


@pytest.mark.parametrize("architecture", ["gpt", "attention", "bigram"])
def test_the_guess_is_what_the_code_of_inside_gives(architecture: str, tokenizer: CharTokenizer):
    sizes = {} if architecture == "bigram" else {"n_layer": 2}
    model = build(architecture, tokenizer, {"block_size": 16, **sizes}, seed=2).eval()
    got = run(inside.code(model), **NAMES)
    again = got[type(model).__name__](model.config)
    again.load_state_dict(model.state_dict())
    again.tokenizer = tokenizer
    _, logits, _ = inside.lens(model, "The sea i")
    full = again.eval()(torch.tensor([tokenizer.encode("The sea i")]))[0][0, -1]
    assert torch.allclose(full, logits[-1], atol=1e-5)
    rows = inside.candidates(model, logits[-1], 0.7, 3, None)
    probs = got["next_char_probs"](logits[-1], 0.7, 3)
    assert rows[0]["after"] == pytest.approx(probs.max())


def test_the_logit_lens(trained: LanguageModel):
    read, logits, notes = inside.lens(trained, "The sea i")
    assert (read, notes) == ("The sea i", [])
    assert len(logits) == trained.config.n_layer + 1
    full = trained(torch.tensor([trained.tokenizer.encode(read)]))[0][0, -1]
    assert torch.allclose(logits[-1], full, atol=1e-4)
    best = inside.guesses(trained, logits)[-1][0]
    assert best["char"] == trained.tokenizer.vocab[int(full.argmax())]
    assert best["p"] == pytest.approx(full.softmax(0).max().item(), abs=1e-4)
    assert best["p"] == pytest.approx(math.exp(best["score"]) / math.exp(best["total"]), rel=1e-4)


@pytest.mark.parametrize("architecture", ["gpt", "bigram"])
def test_the_guess_after_any_character(architecture: str, tokenizer: CharTokenizer):
    sizes = {} if architecture == "bigram" else {"n_layer": 2}
    model = build(architecture, tokenizer, {"block_size": 16, **sizes}, seed=2).eval()
    text = "The sea i"
    for behind, read in ((0, text), (3, "The se"), (8, "T"), (9, text), (-1, text)):
        whole, logits, _ = inside.lens(model, text, behind)
        assert (whole, inside.place_of(text, behind)) == (text, len(read) - 1)
        for got, alone in zip(logits, inside.lens(model, read)[1], strict=True):
            assert torch.allclose(got, alone, atol=1e-5)
        came = inside.came(model, text, behind, logits[-1])
        if read == text:
            assert came is None
        else:
            next_id = tokenizer.encode(text[len(read)])[0]
            assert came == {
                "char": text[len(read)],
                "p": pytest.approx(logits[-1].softmax(0)[next_id].item()),
            }


def test_a_text_without_one_of_its_characters(trained: LanguageModel):
    text, i = "The rose", 4
    told = attention.without(trained, text, i)
    for name, part, start in (("with", text, i + 1), ("without", "The ose", i)):
        ids = torch.tensor([trained.tokenizer.encode(part)])
        with torch.no_grad():
            logits = trained(ids)[0]
        probs = logits[0, -1].softmax(0)
        assert told[name]["guesses"][0] == (
            trained.tokenizer.vocab[int(probs.argmax())],
            pytest.approx(probs.max().item()),
        )
        losses = torch.nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:], reduction="none")
        assert told[name]["loss"] == pytest.approx(losses[start - 1 :].mean().item())
    assert attention.without(trained, text, len(text) - 1)["with"]["loss"] is None
    for wrong in ((text, -1), (text, len(text)), ("T", 0)):
        with pytest.raises(CharlmError, match="two characters or more"):
            attention.without(trained, *wrong)


def test_candidates_tell_what_is_cut_off(trained: LanguageModel):
    _, logits, _ = inside.lens(trained, "The sea i")
    rows = inside.candidates(trained, logits[-1], 1.0, 3, None)
    assert [row["after"] > 0 for row in rows] == [True] * 3 + [False] * (len(rows) - 3)
    assert sum(row["after"] for row in rows) == pytest.approx(1)
    assert sum(row["before"] for row in rows) == pytest.approx(1)
