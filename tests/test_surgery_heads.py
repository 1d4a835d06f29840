"""What heads are worth and what they look at: planted patterns are found, and no others."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from conftest import make_model
from torch import Tensor

from charlm import CharlmError, Corpus, checkpoints, cli, operate
from charlm.models import AttentionConfig, AttentionLanguageModel, LanguageModel, build
from charlm.surgery import heads
from charlm.surgery.atlas import MOST_BACK, Atlas, patterns, score, survey
from charlm.surgery.edits import AverageHead, ScaleHead, all_average
from charlm.surgery.heads import load_heads, measure, to_json
from charlm.surgery.ranking import rank
from charlm.tokenizer import CharTokenizer
from charlm.training import excerpt as excerpts
from charlm.training.excerpt import BLOCKS, Excerpt, make_excerpt

TEXT = """When forty winters shall besiege thy brow
And dig deep trenches in thy beauty's field,
Thy youth's proud livery, so gazed on now,
Will be a tattered weed, of small worth held.
"""


def ignore(done: float) -> None:
    """Progress that nobody follows."""


@pytest.fixture
def excerpt(trained: LanguageModel, corpus: Corpus) -> Excerpt:
    return make_excerpt(corpus, trained, corpus.split(trained.tokenizer)[0])


def targets_of(text: str, detector: str) -> dict[int, list[int]]:
    rows = patterns(text)[detector]
    return {t: row.nonzero()[:, 0].tolist() for t, row in enumerate(rows) if row.any()}


def test_the_targets_of_each_pattern():
    text = "ab\nabc b\nc"
    assert targets_of(text, "previous") == {t: [t - 1] for t in range(1, 10)}
    assert targets_of(text, "back 3") == {t: [t - 3] for t in range(3, 10)}
    assert targets_of(text, "line_start") == {5: [3], 6: [3], 7: [3], 8: [3]}
    assert targets_of(text, "separator") == {4: [2], 5: [2], 6: [2], 8: [6]}
    assert targets_of(text, "same") == {3: [0], 4: [1], 7: [1, 4], 8: [2], 9: [5]}
    assert targets_of(text, "induction") == {3: [1], 4: [2], 7: [2, 5], 8: [3], 9: [6]}


def planted(text: str, detector: str) -> Tensor:
    """Weights (1, 1, T, T) of a head that looks at the targets of a detector, evenly where there are none."""
    T = len(text)
    chosen = patterns(text)[detector].float()
    chosen[~chosen.any(1).bool()] = torch.ones(T, T).tril()[~chosen.any(1).bool()]
    return (chosen / chosen.sum(1, keepdim=True))[None, None]


DETECTORS = [
    "previous",
    "line_start",
    "separator",
    "same",
    "induction",
    *(f"back {n}" for n in (2, 5, MOST_BACK)),
]


@pytest.mark.parametrize("detector", DETECTORS)
def test_a_planted_pattern_is_found_and_no_other(detector: str):
    atlas = score([(planted(TEXT, detector), TEXT)])
    name, _, back = detector.partition(" ")
    assert atlas.scores[name][0][0] == pytest.approx(1)
    assert [found for found, _ in atlas.found(0, 0)] == [name]
    if back:
        assert atlas.back == [[int(back)]]


def test_an_even_head_is_found_and_gets_what_chance_gives():
    T = len(TEXT)
    even = (torch.ones(T, T).tril() / torch.arange(1, T + 1)[:, None])[None, None]
    atlas = score([(even, TEXT)])
    assert atlas.found(0, 0) == [("even", pytest.approx(1))]
    assert set(atlas.scores) == set(atlas.chance) == {name.partition(" ")[0] for name in DETECTORS} | {"even"}
    for name, chance in atlas.chance.items():
        assert atlas.scores[name] == [[pytest.approx(chance)]]
    assert atlas.chance["previous"] == pytest.approx(sum(1 / (t + 1) for t in range(1, T)) / (T - 1))


def test_several_texts_count_by_their_characters():
    texts = ["abab", "cdefghij"]
    weights = [planted(texts[0], "previous"), planted(texts[1], "back 2")]
    atlas = score(zip(weights, texts, strict=True))
    # The second text's first two characters have no target two back: the second looks evenly there.
    assert atlas.scores["previous"][0][0] == pytest.approx((3 + 0.5) / 10)
    assert atlas.scores["back"][0][0] == pytest.approx((0 + 6) / 8)


def test_the_entropy_is_a_share_of_the_most():
    weights = torch.tensor([[[[1.0, 0, 0], [0.5, 0.5, 0], [0.5, 0.5, 0]]]])
    atlas = score([(weights, "abc")])
    assert atlas.scores["even"][0][0] == pytest.approx((1 + math.log(2) / math.log(3)) / 2)


def test_a_detector_without_targets_is_left_out():
    assert set(score([(torch.ones(1, 1, 1, 1), "a")]).scores) == set()
    atlas = score([(planted("abcd", "previous"), "abcd")])
    assert set(atlas.scores) == {"previous", "back", "even"}


def test_what_everything_follows_by_chance_is_not_found():
    """In a text of one character only, all that is two back or more is the same character."""
    atlas = Atlas({"same": 0.9, "even": 1.0}, {"same": [[0.92]], "even": [[0.1]]}, [])
    assert atlas.found(0, 0) == []


def planted_model() -> LanguageModel:
    """Heads alone: the first looks at the character before, the second at the same character.

    Rotary positions turn a pair of channels by its own angle at each step, so q·k of a query that is the key
    turned one step back is largest one step back. The second head compares characters in the channels that
    hardly turn.
    """
    tokenizer = CharTokenizer.from_text(TEXT)
    d, vocab_size = 128, tokenizer.vocab_size
    model = AttentionLanguageModel(
        AttentionConfig(vocab_size, block_size=80, n_layer=1, n_head=2, n_embd=2 * d)
    )
    half = d // 2
    step = 10_000.0 ** (-torch.arange(half) / half)
    with torch.no_grad():
        model.embedding.weight.zero_()
        model.embedding.weight[:, :vocab_size] = torch.eye(vocab_size)
        model.embedding.weight[:, -1] = 1  # the same for each character
        q, k, _ = model.layers[0].qkv.weight.zero_().view(3, 2, d, 2 * d)
        strength = 60.0
        k[0, :half, -1] = 1
        q[0, :half, -1], q[0, half:, -1] = strength * step.cos(), -strength * step.sin()
        slow = slice(half - vocab_size, half)
        k[1, slow, :vocab_size] = torch.eye(vocab_size)
        q[1, slow, :vocab_size] = strength * torch.eye(vocab_size)
    model.tokenizer = tokenizer
    return model.eval()


def test_a_model_with_planted_heads():
    model = planted_model()
    assert model.config.head_size // 2 > model.config.vocab_size
    atlas = survey(model, torch.tensor([model.tokenizer.encode(TEXT[:60])]))
    assert [name for name, _ in atlas.found(0, 0)] == ["previous"]
    assert [name for name, _ in atlas.found(0, 1)] == ["same"]
    assert atlas.scores["previous"][0][0] > 0.95
    averaged = survey(
        operate(model, "1.1:average 1.2:average"), torch.tensor([model.tokenizer.encode(TEXT[:60])])
    )
    assert [name for name, _ in averaged.found(0, 0)] == ["even"]


@pytest.fixture(params=["gpt", "attention"])
def model(request: pytest.FixtureRequest, tokenizer: CharTokenizer, trained: LanguageModel) -> LanguageModel:
    if request.param == "gpt":
        return trained
    model = make_model(tokenizer, "attention", n_layer=2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.4, generator=torch.Generator().manual_seed(2))
    return model.rounded().eval()


def test_the_ranking_is_what_operating_gives(
    model: LanguageModel, excerpt: Excerpt, monkeypatch: pytest.MonkeyPatch
):
    """In several pieces, the last of another size."""
    monkeypatch.setattr(excerpts, "CHARS_AT_ONCE", 5 * 16)
    done: list[float] = []
    result = rank(model, excerpt, done.append)
    x, y = excerpt.ids(model.tokenizer)
    assert len(x) % 5

    def loss(*edits) -> float:
        return operate(model, edits)(x, y)[1].item()

    assert result.loss == pytest.approx(loss(), abs=1e-5)
    assert result.all_averaged == pytest.approx(loss(*all_average(model)), abs=1e-5)
    for layer in (1, 2):
        for head in (1, 2):
            silent, average = ScaleHead(layer, head, 0), AverageHead(layer, head)
            growth = result.silent[layer - 1][head - 1], result.average[layer - 1][head - 1]
            assert growth[0] == pytest.approx(loss(silent) - loss(), abs=1e-5)
            assert growth[1] == pytest.approx(loss(average) - loss(), abs=1e-5)
    assert done == sorted(done) and done[0] > 0 and done[-1] == pytest.approx(1)
    assert result.bigram == excerpt.bigram


def test_what_progress_raises_ends_the_work(trained: LanguageModel, excerpt: Excerpt):
    calls = []

    def stop(done: float) -> None:
        calls.append(done)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rank(trained, excerpt, stop)
    assert len(calls) == 1


def test_a_model_without_heads_has_none_to_measure(tokenizer: CharTokenizer, excerpt: Excerpt):
    bigram = build("bigram", tokenizer, {}, seed=1)
    with pytest.raises(CharlmError, match="no heads"):
        measure(bigram, excerpt, "test", ignore)
    with pytest.raises(CharlmError, match="no heads"):
        survey(bigram, torch.tensor([[1, 2]]))


@pytest.fixture
def kept(trained: LanguageModel, excerpt: Excerpt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a checkpoint that comes with charlm, whose name is “small”."""
    monkeypatch.setattr(checkpoints, "CHECKPOINTS", tmp_path)
    checkpoints.save(trained, {}, tmp_path / "small")
    path = tmp_path / "small" / heads.HEADS
    path.write_text(json.dumps(to_json(measure(trained, excerpt, "test", ignore))))
    return path


def test_what_was_measured_is_kept_and_found(kept: Path, trained: LanguageModel, excerpt: Excerpt):
    measured, found = measure(trained, excerpt, "test", ignore), load_heads("small")
    assert found is not None
    assert to_json(found) == to_json(measured)
    assert found.ranking.loss == pytest.approx(measured.ranking.loss, abs=1e-4)
    assert found.weights_sha256 == checkpoints.read_description(kept.parent)["weights_sha256"]
    assert (found.excerpt.data, found.excerpt.blocks) == (excerpt.data, excerpt.blocks)


def test_what_is_missing_or_stale_is_not_found(kept: Path, trained: LanguageModel):
    assert load_heads("other") is None
    assert load_heads(f"../{kept.parent.parent.name}/small") is None
    checkpoints.save(operate(trained, "1.1:silent"), {}, kept.parent)
    assert load_heads("small") is None
    kept.unlink()
    assert load_heads("small") is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda value: value.pop("ranking"),
        lambda value: value.update(format="charlm heads 0"),
        lambda value: value.update(more=1),
        lambda value: value["excerpt"].update(blocks=[]),
        lambda value: value["ranking"]["silent"].pop(),
        lambda value: value["ranking"].update(average="none"),
        lambda value: value["atlas"]["scores"].update(same=[[1, 2], [3, "4"]]),
        lambda value: value["atlas"].update(scores=[]),
    ],
)
def test_a_damaged_file_is_not_found(damage, kept: Path):
    value = json.loads(kept.read_text())
    assert load_heads("small") is not None
    damage(value)
    kept.write_text(json.dumps(value))
    assert load_heads("small") is None
    kept.write_text(json.dumps(value)[:-9])
    assert load_heads("small") is None


@pytest.mark.parametrize("name", checkpoints.names())
def test_the_committed_files_belong_to_the_committed_weights(name: str):
    """Made anew by: python -m charlm heads NAME --json > checkpoints/NAME/heads.json"""
    found = load_heads(name)
    if name == "bigram":
        assert found is None
        return
    assert found is not None
    assert found.command == f"python -m charlm heads {name} --json"
    model = checkpoints.load(name)
    assert found.excerpt.data == model.record["data"]
    assert len(found.excerpt.blocks) == BLOCKS and found.excerpt.fitted(model) == found.excerpt


def test_the_commands(
    kept: Path, trained: LanguageModel, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    text = tmp_path / "colours.txt"
    text.write_text(corpus.text)
    out = tmp_path / "changed"
    assert cli.main(["operate", "small", "1.1:silent 2.2:average", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}: small with 2 edits\n"
    assert cli.main(["operate", "small", "1.1:silent 2.2:average", "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["surgery"]["edits"] == "1.1:silent 2.2:average"
    assert cli.main(["heads", str(out), "--data", str(text), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["command"] == "python -m charlm heads changed --json"
    assert value["ranking"]["silent"][0][0] == 0
    assert value["ranking"]["average"][1][1] == 0
    assert cli.main(["heads", "small", "--data", str(text)]) == 0
    lines = capsys.readouterr().out.splitlines()
    ranked = [float(line.split()[1]) for line in lines[3:]]
    assert len(ranked) == 4 and ranked == sorted(ranked, reverse=True)
    assert cli.main(["operate", "small", "9.1:silent", "--out", str(out)]) == 1
    assert "There is no layer 9" in capsys.readouterr().err


def test_the_result_of_an_operation_does_not_overwrite_what_it_was_made_from(
    kept: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    before = checkpoints.read_description(kept.parent)
    monkeypatch.chdir(kept.parent)
    for base, out in (("small", str(kept.parent)), (str(kept.parent), "../small"), ("small", ".")):
        assert cli.main(["operate", base, "1.1:silent", "--out", out]) == 1
        assert "holds the model that is changed: give another --out." in capsys.readouterr().err
    assert checkpoints.read_description(kept.parent) == before
