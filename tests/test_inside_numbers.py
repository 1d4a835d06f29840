"""What the Inside tab tells of changed parts, of neurons and of two texts is what the model does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from conftest import make_model
from torch import Tensor

import charlm
from charlm import CharlmError, operate
from charlm.models import GPT, LanguageModel, build
from charlm.models.trace import trace
from charlm.surgery.patching import patch, patch_cell
from charlm.tokenizer import CharTokenizer
from charlm.ui.inside import comparing, neurons, numbers

TEXT = "The sea is b"
FIRST, SECOND = "The rose is ", "The leaf is "


@pytest.fixture(scope="module")
def model(tokenizer: CharTokenizer) -> GPT:
    """Two blocks of two heads, all awake."""
    model = make_model(tokenizer)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=0.3, generator=generator)
    assert isinstance(model, GPT)
    return model.eval()


@pytest.fixture(scope="module")
def no_mlp(tokenizer: CharTokenizer) -> LanguageModel:
    return make_model(tokenizer, "attention").eval()


@pytest.fixture(scope="module")
def bigram(tokenizer: CharTokenizer) -> LanguageModel:
    return build("bigram", tokenizer, {}, seed=1).eval()


def ids(model: LanguageModel, text: str) -> Tensor:
    return torch.tensor([model.tokenizer.encode(text)])


def path(model: LanguageModel, edits: str) -> list[dict]:
    changed = operate(model, edits)
    before, after = (numbers.lens(m, TEXT)[1] for m in (model, changed))
    return numbers.path(changed, len(TEXT), after, before, edits)


def test_a_part_tells_what_became_of_its_best_guess(model: GPT):
    *earlier, last, logits = path(model, "2.mlp:off")
    assert not any(part["shift"] or part["guessed"] for part in (*earlier, logits))
    old, new = (m(ids(model, TEXT))[0][0, -1].softmax(0) for m in (model, operate(model, "2.mlp:off")))
    assert last["shift"] == {
        "char": model.tokenizer.vocab[int(old.argmax())],
        "before": pytest.approx(old.max().item(), abs=1e-5),
        "after": pytest.approx(new[old.argmax()].item(), abs=1e-5),
    }
    assert last["guessed"][0]["p"] == pytest.approx(old.max().item(), abs=1e-5)
    assert last["guesses"][0]["p"] == pytest.approx(new.max().item(), abs=1e-5)


def test_all_that_comes_after_a_changed_part_is_compared(model: GPT):
    assert [bool(part["shift"]) for part in path(model, "1.attention:off")] == [
        *(False, False),
        *(True, True),
        False,
    ]
    after = numbers.lens(model, TEXT)[1]
    assert not any(part["shift"] for part in numbers.path(model, len(TEXT), after, after))


def test_a_model_with_one_guess_has_one_comparison(no_mlp: LanguageModel):
    shifted = [part["name"] for part in path(no_mlp, "2.attention:off") if part["shift"]]
    assert shifted == ["Layer 2"]


def test_changes_are_told_in_words(model: GPT, no_mlp: LanguageModel):
    words = numbers.changed("1.attention:off 2.1:silent 2.2:x1.5 1.mlp.3:off 1.2:average 1.mlp:off 1.1:x2")
    assert words == {
        1: ["attention off", "neuron 3 off", "head 2 average", "2 more"],
        2: ["head 1 silent", "head 2 ×1.5"],
    }
    assert numbers.changed("1.mlp:off 1.mlp:on 2.1:learned") == {}
    assert [(s["name"], s["part"], s["on"]) for s in numbers.switches(model, 2, "2.mlp:off 1.mlp:off")] == [
        ("attention", "2.attention", True),
        ("MLP", "2.mlp", False),
    ]
    assert [s["part"] for s in numbers.switches(no_mlp, 1, "")] == ["1.attention"]


def test_a_distribution_tells_of_what_is_likely_in_any(model: GPT):
    first, second = torch.zeros(2, model.config.vocab_size)
    first[[3, 5, 9, 11]] = torch.tensor([0.5, 0.475, 0.02, 0.005])
    second[7] = 1.0
    rows = numbers.distributions(model, first, second)
    vocab = model.tokenizer.vocab
    assert [row["char"] for row in rows] == [vocab[7], vocab[3], vocab[5], vocab[9]]
    assert rows[1]["ps"] == [0.5, 0]
    sure = torch.zeros(model.config.vocab_size)
    sure[3] = 1
    assert len(numbers.distributions(model, sure)) == numbers.ALWAYS_SHOWN


@pytest.mark.parametrize("layer", [1, 2])
def test_activations_are_what_the_second_matrix_reads(model: GPT, layer: int):
    read = []
    handle = model.layers[layer - 1].mlp.down.register_forward_pre_hook(lambda _, args: read.append(args[0]))
    traced = trace(model, ids(model, TEXT))
    handle.remove()
    with torch.no_grad():
        assert torch.allclose(neurons.activations(model, traced.residual, layer), read[0], atol=1e-5)


def test_the_push_of_a_neuron_of_the_last_block_is_what_it_does(model: GPT):
    """There its direct effect is all of it."""
    told = neurons.explain(model, TEXT, 0, 2)
    for entry in told["most"][:3]:
        without = operate(model, f"2.mlp.{entry['neuron']}:off")
        with torch.no_grad():
            change = (model(ids(model, TEXT))[0] - without(ids(model, TEXT))[0])[0, -1]
        change -= change.mean()
        up = entry["up"][0]
        assert up["by"] == pytest.approx(change.max().item(), abs=1e-4)
        assert up["char"] == model.tokenizer.vocab[int(change.argmax())]
        assert entry["down"][0]["by"] == pytest.approx(change.min().item(), abs=1e-4)


def test_the_most_active_neurons_come_first(model: GPT):
    told = neurons.explain(model, TEXT, 3, 1)
    values = neurons.activations(model, trace(model, ids(model, TEXT)).residual, 1)[0, len(TEXT) - 4]
    listed = [entry["value"] for entry in told["most"]]
    assert listed == sorted(values.tolist(), reverse=True)[: neurons.NEURONS]
    assert told["chosen"] == told["most"][0]
    assert (told["awake"], told["count"]) == (int((values > 0).sum()), 64)
    asleep = int((values == 0).nonzero()[0]) + 1
    chosen = neurons.explain(model, TEXT, 3, 1, asleep)["chosen"]
    assert (chosen["neuron"], chosen["value"]) == (asleep, 0)
    assert chosen["up"][0]["by"] == pytest.approx(0, abs=1e-6)


def test_a_neuron_held_at_nothing_is_as_good_as_off(model: GPT):
    told = neurons.explain(model, TEXT, 2, 1, 7, 0)
    without = operate(model, "1.mlp.7:off")
    with torch.no_grad():
        expected = torch.stack([m(ids(model, TEXT))[0][0, -3].softmax(0) for m in (model, without)])
    for row in told["bars"]:
        i = model.tokenizer.vocab.index(row["char"])
        assert row["ps"] == pytest.approx(expected[:, i].tolist(), abs=1e-5)
    assert {len(row["ps"]) for row in neurons.explain(model, TEXT, 2, 1, 7)["bars"]} == {1}
    high = neurons.explain(model, TEXT, 2, 1, 7, 50.0)["bars"]
    assert any(abs(before - after) > 0.01 for before, after in (row["ps"] for row in high))


@pytest.mark.parametrize(
    ("layer", "neuron", "held", "sentence"),
    [
        (3, None, None, "There is no block 3: this model has blocks 1 to 2"),
        (1, 65, None, "There is no neuron 65: this model has neurons 1 to 64"),
        (1, 0, None, "There is no neuron 0"),
        (1, 1, -1, "must be from 0 to 1000"),
        (1, 1, 1001, "must be from 0 to 1000"),
        (1, 1, float("nan"), "must be from 0 to 1000"),
    ],
)
def test_neurons_that_cannot_be_are_told(
    model: GPT, layer: int, neuron: int | None, held: float | None, sentence: str
):
    with pytest.raises(CharlmError, match=sentence):
        neurons.explain(model, TEXT, 0, layer, neuron, held)


def test_a_model_without_neurons_is_told(no_mlp: LanguageModel, model: GPT):
    with pytest.raises(CharlmError, match="no neurons"):
        neurons.explain(no_mlp, TEXT, 0, 1)
    assert neurons.section(no_mlp) == {"why": neurons.NO_NEURONS}
    assert neurons.section(model) == {"layers": 2, "squared": True}
    assert neurons.section(charlm.load("residual")) == {"layers": 3, "squared": False}


def test_edits_of_neurons_are_told_apart():
    edits = "1.mlp.7:off 2.mlp.7:off 1.mlp.9:off 1.mlp.9:on 1.2:silent"
    assert neurons.switched_off(edits, 1) == [7]
    assert neurons.without(edits, 1, 7) == "2.mlp.7:off 1.mlp.9:off 1.mlp.9:on 1.2:silent"
    assert not neurons.is_mlp_off(edits, 1)
    assert neurons.is_mlp_off("1.mlp:off", 1) and not neurons.is_mlp_off("1.mlp:off 1.mlp:on", 1)


def test_two_texts_are_compared_cell_by_cell(model: GPT):
    told = comparing.compare(model, FIRST, SECOND)
    first, second = ids(model, FIRST)[0], ids(model, SECOND)[0]
    result = patch(model, first, second)
    assert told["returned"] == result.returned.tolist()
    assert told["rows"] == ["the embedding", "block 1", "block 2"]
    probs = patch_cell(model, first, second, 1, told["cell"]["position"])
    for key, i in (("first", result.first_id), ("second", result.second_id)):
        measured = told["measured"][key == "second"]
        assert measured["char"] == model.tokenizer.vocab[i]
        assert measured["ps"] == pytest.approx(probs[:2, i].tolist(), abs=1e-5)
    assert told["cell"]["layer"] == 1
    assert told["cell"]["position"] == int(result.returned[1].argmax())
    cell = comparing.compare_cell(model, FIRST, SECOND, 1, told["cell"]["position"])
    assert cell == told["cell"]
    row = cell["bars"][0]
    i = model.tokenizer.vocab.index(row["char"])
    assert row["ps"] == pytest.approx(probs[:, i].tolist(), abs=1e-5)


def test_a_route_takes_rows_of_one_position_together():
    assert comparing.route([7, 7, 8, 7]) == [
        {"position": 7, "begin": 0, "end": 1},
        {"position": 8, "begin": 2, "end": 2},
        {"position": 7, "begin": 3, "end": 3},
    ]


@pytest.mark.parametrize(
    ("first", "second", "sentence"),
    [
        ("", "", "Write two texts"),
        ("The", "Thee", "the first has 3, the second 4"),
        ("The", "The", "continued alike"),
        ("a" * 17, "b" * 17, "Texts of up to 16 characters are compared: these have 17"),
        ("The é", "The a", "lacks “é”"),
    ],
)
def test_texts_that_cannot_be_compared_are_told(model: GPT, first: str, second: str, sentence: str):
    with pytest.raises(CharlmError, match=sentence):
        comparing.compare(model, first, second)


def test_long_texts_are_not_compared_however_much_is_read(tokenizer: CharTokenizer):
    long = make_model(tokenizer, block_size=64).eval()
    with pytest.raises(CharlmError, match="Texts of up to 32 characters"):
        comparing.compare(long, "a" * 33, "b" * 33)


def test_a_model_that_does_not_look_back_compares_nothing(bigram: LanguageModel, no_mlp: LanguageModel):
    with pytest.raises(CharlmError, match="one character only"):
        comparing.compare(bigram, FIRST, SECOND)
    assert "one character only" in comparing.section(bigram)["why"]
    assert comparing.section(no_mlp) == {}
    assert comparing.compare(no_mlp, FIRST, SECOND)["rows"] == ["the embedding", "layer 1", "layer 2"]


def test_who_looks_at_the_same_time_sees_his_own_neurons(trained: LanguageModel):
    """One model is everybody's."""
    residuals = [trace(trained, torch.ones(1, T, dtype=torch.long)).residual for T in (3, 9)]

    def shapes(residual: torch.Tensor) -> set[int]:
        return {neurons.activations(trained, residual, 1).shape[1] for _ in range(200)}

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(shapes, residuals)) == [{3}, {9}]
