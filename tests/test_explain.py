"""The numbers behind the pictures are what the lines of PyTorch beside them give."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import make_model
from torch import nn

import charlm
from charlm import Corpus
from charlm.errors import CharlmError
from charlm.models import LanguageModel, build
from charlm.models.trace import trace
from charlm.tokenizer import CharTokenizer
from charlm.ui.attention import numbers as attention
from charlm.ui.averaging import numbers as averaging
from charlm.ui.bigram import numbers as bigram
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


@pytest.fixture
def counted_bigram(corpus: Corpus, tokenizer: CharTokenizer) -> LanguageModel:
    from charlm.training.trainer import Trainer, TrainingOptions

    model = build("bigram", tokenizer, {}, seed=1)
    trainer = Trainer(model, corpus, TrainingOptions(steps=3, eval_blocks=2))
    list(trainer.run())
    trained = trainer.average.rounded()
    trained.record = trainer.record("test") | trainer.losses()
    return trained


def test_bigram_tables_are_what_their_lines_give(counted_bigram: LanguageModel, corpus: Corpus):
    tokenizer = counted_bigram.tokenizer
    char, V = "T", tokenizer.vocab_size
    train, val = corpus.split(tokenizer)
    i = tokenizer.encode(char)[0]
    got = run(bigram.LINES, model=counted_bigram, ids=train, vocab_size=V, i=i, temperature=0.5)
    learned, counted = bigram.tables(counted_bigram)
    assert torch.allclose(learned.float(), got["learned"])
    assert torch.allclose(counted.float(), got["counted"].nan_to_num())
    shown = {row["char"]: row for row in bigram.next_chars(counted_bigram, char, 0.5)}
    for j, other in enumerate(tokenizer.vocab):
        assert shown[other]["prob"] == pytest.approx(got["next_char"][j].item(), abs=1e-6)
        assert shown[other]["counted"] == pytest.approx(counted[i, j].item())
    losses = bigram.losses(counted_bigram)
    assert losses["uniform"] == math.log(V)
    assert losses["learned"] == pytest.approx(charlm.evaluate(counted_bigram, val))


@pytest.mark.parametrize("version", [1, 2, 3, 4])
@pytest.mark.parametrize("T", [1, 6, 16])
def test_averages_are_what_their_code_gives(version: int, T: int):
    shown = averaging.explain(version, T, seed=3)
    got = run(averaging.code(version), Tensor=torch.Tensor, math=math)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(3)
        x = torch.randn(T, averaging.C)
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
    rows = averaging.time_versions([1, 8], repeats=1)
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


@pytest.mark.parametrize("sizes", STAGES)
def test_the_parts_hold_all_parameters(sizes: dict[str, object], tokenizer: CharTokenizer):
    model = make_model(tokenizer, **sizes)
    assert sum(p["parameters"] for p in inside.parts(model, 5)) == model.parameter_count()
    bigram_model = build("bigram", tokenizer, {}, seed=1)
    assert sum(p["parameters"] for p in inside.parts(bigram_model, 5)) == bigram_model.parameter_count()


def test_the_logit_lens_is_what_its_lines_give(trained: LanguageModel):
    read, logits, notes = inside.lens(trained, "The sea i")
    got = run(inside.LINES, model=trained, text=read, T=len(read), temperature=0.7)
    assert len(logits) == trained.config.n_layer + 1
    assert torch.allclose(logits[-1], got["logits"][0, -1], atol=1e-4)
    (char, p), *_ = inside.guesses(trained, logits)[-1]
    assert p == pytest.approx(got["guess"].max().item(), abs=1e-4)
    assert char == trained.tokenizer.vocab[int(got["guess"].argmax())]
    rows = inside.candidates(trained, logits[-1], 0.7, None, None)
    assert rows[0]["after"] == pytest.approx(got["probs"].max().item(), abs=1e-4)
    assert notes == []


def test_candidates_tell_what_is_cut_off(trained: LanguageModel):
    _, logits, _ = inside.lens(trained, "The sea i")
    rows = inside.candidates(trained, logits[-1], 1.0, 3, None)
    assert [row["after"] > 0 for row in rows] == [True] * 3 + [False] * (len(rows) - 3)
    assert sum(row["after"] for row in rows) == pytest.approx(1)
    assert sum(row["before"] for row in rows) == pytest.approx(1)
