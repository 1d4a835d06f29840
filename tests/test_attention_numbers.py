"""What the Attention tab says of heads: their worth, what they mostly do, and what one weight does."""

from __future__ import annotations

import base64
import re
from dataclasses import fields

import numpy as np
import pytest
import torch
from conftest import make_model

import charlm
from charlm.errors import CharlmError
from charlm.models import LanguageModel
from charlm.surgery.atlas import Atlas
from charlm.surgery.heads import load_heads
from charlm.surgery.hooks import AttentionCell, hooked
from charlm.tokenizer import CharTokenizer
from charlm.ui.attention import known
from charlm.ui.attention import numbers as attention


def test_one_weight_changes_its_row_and_the_guess_after_it(trained: LanguageModel):
    text, row, column = "The sea is blue", 9, 4
    told = attention.with_weight(trained, text, 1, 0, row, column, 0.75)
    weights = np.frombuffer(base64.b64decode(told["row"]), "<f4")
    learned = attention.explain(trained, text).weights[1, 0, row].numpy()
    assert weights[column] == pytest.approx(0.75) and weights.sum() == pytest.approx(1, abs=1e-5)
    others = [t for t in range(row + 1) if t != column]
    share = 0.25 / learned[others].sum()
    assert weights[others] == pytest.approx(learned[others] * share, abs=1e-5)
    idx = torch.tensor([trained.tokenizer.encode(text)])
    before = trained(idx)[0][0, row].softmax(-1)
    after = hooked(trained, [AttentionCell(2, 1, row, column, 0.75)])(idx)[0][0, row].softmax(-1)
    assert not torch.allclose(before, after, atol=1e-3)
    chars = {char for char, _, _ in told["guesses"]}
    vocab = trained.tokenizer.vocab
    for probs in (before, after):
        assert {vocab[c] for c in probs.topk(attention.BARS).indices} <= chars
    for char, p, q in told["guesses"]:
        place = vocab.index(char)
        assert (p, q) == (
            pytest.approx(before[place].item(), abs=1e-5),
            pytest.approx(after[place].item(), abs=1e-5),
        )
    heights = [max(p, q) for _, p, q in told["guesses"]]
    assert heights == sorted(heights, reverse=True)


@pytest.mark.parametrize(
    "cell", [(9, 0, 3, 1, 0.5), (1, 9, 3, 1, 0.5), (1, 0, 99, 1, 0.5), (1, 0, 3, 4, 0.5), (1, 0, 3, 1, 2)]
)
def test_a_weight_that_cannot_be_set_is_told(cell: tuple[int, int, int, int, float], trained: LanguageModel):
    with pytest.raises(CharlmError):
        attention.with_weight(trained, "The sea", *cell)


def test_on_a_short_text_chance_is_no_habit():
    """A head that looks elsewhere in each row puts more than a third of its weight on the same place."""
    weights = torch.zeros(1, 5, 5)
    for row, column in ((0, 0), (1, 1), (2, 1), (3, 1)):
        weights[0, row, column] = 1
    weights[0, 4, 3:] = 0.5
    assert weights.diagonal(0, 1, 2)[0, 1:].mean() == 0.375
    words, weight = attention.habits(weights)[0]
    assert words.startswith("looks at several places") and weight is None


def test_both_habits_of_a_head_have_one_threshold():
    assert (attention.CLEAR, attention.EVEN) == (known.CLEAR, known.EVEN)


def atlas(scores: dict[str, float], back: int = 3) -> Atlas:
    """Of one head; all chances are a tenth."""
    return Atlas(dict.fromkeys(scores, 0.1), {name: [[score]] for name, score in scores.items()}, [[back]])


@pytest.mark.parametrize(
    ("scores", "words", "short"),
    [
        (
            {"previous": 0.8, "same": 0.05},
            "looks one character back: 0.80, by chance 0.10",
            "one back 0.80, chance 0.10",
        ),
        ({"previous": 0.3, "back": 0.3}, "clearly follows none of the patterns", "no pattern"),
        (
            {"previous": 0.4, "back": 0.5},
            "looks three characters back: 0.50, by chance 0.10; "
            "looks one character back: 0.40, by chance 0.10",
            "three back 0.50, chance 0.10",
        ),
        ({"previous": 0.1, "even": 0.9}, "spreads evenly: 0.90 of the most there can be", "evenly 0.90"),
        (
            {"induction": 0.6},
            "looks at what followed earlier ones of the same character: 0.60, by chance 0.10",
            "what followed 0.60, chance 0.10",
        ),
    ],
)
def test_heads_are_told_by_the_atlas(scores: dict[str, float], words: str, short: str):
    assert known.usual(atlas(scores), 0, 0) == (words, short)


def test_what_is_known_is_listed_head_by_head():
    heads = load_heads("gpt")
    assert heads is not None
    told = known.describe(heads)
    n_head = charlm.load("gpt").config.n_head
    k = 4 * n_head + 3
    assert told["silent"][k] == heads.ranking.silent[4][3] == max(told["silent"])
    assert told["average"][k] == heads.ranking.average[4][3]
    assert told["scores"]["previous"][3 * n_head + 1] == heads.atlas.scores["previous"][3][1]
    assert told["usual"][3 * n_head + 1][0].startswith("looks one character back: 0.8")
    assert (told["loss"], told["excerpt"]) == (heads.ranking.loss, heads.excerpt.description)


def test_every_detector_has_a_title_and_a_definition():
    said = re.findall(r"- `(\w+)`", Atlas.__doc__ or "")
    assert {*said} == {*known.DETECTORS, "even"} and fields(Atlas)
    assert [known.title(name) for name in (*known.DETECTORS, "even")] == [
        term for term, _ in known.definitions()
    ]


def test_tiles_say_what_they_show(tokenizer: CharTokenizer):
    model = make_model(tokenizer)
    maps = attention.explain(model, "The sea is")
    tiles = attention.tiles(maps)
    assert len(tiles["tiles"]) == len(tiles["does"]) == 1 + 2 * 2
    assert tiles["does"][1:] == attention.habits(maps.weights.flatten(0, 1))
    average = np.frombuffer(base64.b64decode(tiles["tiles"][0]), np.uint8).reshape(10, 10)
    assert average == pytest.approx(255 * maps.weights.mean((0, 1)).numpy(), abs=0.5 + 1e-3)
