"""What no weights express: cells, neurons and channels of one run, set by hooks; and activation patching."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from conftest import make_model
from torch import Tensor

from charlm import CharlmError, operate
from charlm.models import LanguageModel
from charlm.models.trace import resume, trace
from charlm.surgery import patching
from charlm.surgery.hooks import AttentionCell, HeldNeuron, ResidualPatch, hooked, set_cells, trace_with
from charlm.surgery.patching import patch, patch_cell
from charlm.tokenizer import CharTokenizer

T = 12


@pytest.fixture(params=["gpt", "attention"])
def model(request: pytest.FixtureRequest, tokenizer: CharTokenizer) -> LanguageModel:
    """Three layers of two heads, all awake."""
    model = make_model(tokenizer, request.param, n_layer=3)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=0.3, generator=generator)
    return model.eval()


@pytest.fixture
def idx(model: LanguageModel) -> Tensor:
    return torch.randint(model.config.vocab_size, (2, T), generator=torch.Generator().manual_seed(0))


def test_the_rest_of_a_row_is_shared_in_proportion():
    weights = torch.tensor([[1, 0, 0, 0], [0.5, 0.5, 0, 0], [0.2, 0.3, 0.5, 0], [0.1, 0.2, 0.3, 0.4]])
    weights = weights.repeat(1, 2, 1, 1)
    after = set_cells(weights.clone(), [AttentionCell(1, 2, row=3, column=3, weight=0.7)])
    assert torch.allclose(after[0, 1, 3], torch.tensor([0.05, 0.1, 0.15, 0.7]))
    after[0, 1, 3] = weights[0, 1, 3]
    assert torch.equal(after, weights)


def test_several_cells_of_a_row_keep_what_they_were_set_to():
    weights = torch.tensor([[[[1.0, 0, 0], [0.5, 0.5, 0], [0.2, 0.2, 0.6]]]])
    cells = [AttentionCell(1, 1, 2, 0, 0.9), AttentionCell(1, 1, 2, 1, 0.3), AttentionCell(1, 1, 2, 0, 0.1)]
    assert torch.allclose(set_cells(weights, cells)[0, 0, 2], torch.tensor([0.1, 0.3, 0.6]))


def test_a_rest_that_was_nothing_is_shared_equally():
    weights = torch.tensor([[[[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]]])
    before = weights.clone()
    after = set_cells(weights, [AttentionCell(1, 1, 2, 2, 0.5)])
    assert after[0, 0, 2].tolist() == [0.25, 0.25, 0.5]
    assert torch.equal(weights, before)
    after = set_cells(weights, [AttentionCell(1, 1, 1, 0, 0)])
    assert after[0, 0, 1].tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("cells", "sentence"),
    [
        ([(2, 0, 0.6), (2, 1, 0.6)], "cannot sum to 1.2"),
        ([(0, 0, 0.5)], "cannot sum to 0.5"),
        ([(1, 0, 0.25), (1, 1, 0.5)], "cannot sum to 0.75"),
        ([(3, 0, 0.5)], "no character at 3: the text has 3"),
    ],
)
def test_rows_that_cannot_be_are_told(cells: list[tuple[int, int, float]], sentence: str):
    weights = torch.tensor([[[[1.0, 0, 0], [0.5, 0.5, 0], [0.2, 0.2, 0.6]]]])
    with pytest.raises(CharlmError, match=sentence):
        set_cells(weights, [AttentionCell(1, 1, *cell) for cell in cells])


def test_a_row_may_be_set_whole():
    weights = torch.tensor([[[[1.0, 0], [0.5, 0.5]]]])
    cells = [AttentionCell(1, 1, 0, 0, 1), AttentionCell(1, 1, 1, 0, 0.9), AttentionCell(1, 1, 1, 1, 0.1)]
    assert torch.allclose(set_cells(weights, cells)[0, 0], torch.tensor([[1, 0], [0.9, 0.1]]))


@pytest.mark.parametrize("cell", [(2, 3, 0.5), (2, -1, 0.5), (2, 1, 1.1), (2, 1, -0.1), (2, 1, float("nan"))])
def test_only_weights_of_the_past_can_be_set(cell: tuple[int, int, float]):
    with pytest.raises(CharlmError):
        AttentionCell(1, 1, *cell)


def test_a_cell_changes_its_row_and_all_that_follows(model: LanguageModel, idx: Tensor):
    before = trace(model, idx)
    after = trace_with(model, idx, [AttentionCell(2, 1, row=5, column=2, weight=0.9)])
    assert torch.allclose(after.weights[1, :, 0, 5, 2], torch.tensor(0.9))
    assert torch.allclose(after.weights.sum(-1), torch.ones(3, 2, 2, T), atol=1e-5)
    changed = [
        ~torch.isclose(x, y, atol=1e-5).all(-1).all(0) for x, y in zip(*both(before, after), strict=True)
    ]
    assert not changed[0].any() and not changed[1].any()
    assert changed[2].nonzero().tolist() == [[5]]
    assert 5 in changed[3].nonzero() and not changed[3][:5].any()
    assert not torch.allclose(before.weights[2], after.weights[2], atol=1e-4)


def both(before, after):
    return before.residual, after.residual


def test_the_edited_weights_are_those_that_mix_the_values(model: LanguageModel, idx: Tensor):
    """A row of a head, set to a plain average, gives what the weights of that head made average do."""
    cells = [AttentionCell(3, 2, row=T - 1, column=c, weight=1 / T) for c in range(T)]
    averaged = operate(model, "3.2:average")(idx)[0][:, -1]
    logits = hooked(model, cells)(idx)[0]
    assert torch.allclose(logits[:, -1], averaged, atol=1e-4)
    assert torch.allclose(logits[:, :-1], model(idx)[0][:, :-1], atol=1e-4)
    traced = trace_with(model, idx, cells)
    assert torch.allclose(model.unembed(traced.residual[-1]), logits, atol=1e-4)


def test_the_model_itself_is_left_alone(model: LanguageModel, idx: Tensor):
    before = model(idx)[0]
    edited = hooked(model, [AttentionCell(2, 1, 5, 2, 0.9)])
    assert not torch.allclose(edited(idx)[0], before, atol=1e-4)
    assert torch.equal(model(idx)[0], before)
    assert [p.data_ptr() for p in edited.parameters()] == [p.data_ptr() for p in model.parameters()]


def test_a_held_neuron(tokenizer: CharTokenizer):
    model = make_model(tokenizer).eval()
    with torch.no_grad():
        for layer in model.layers:
            layer.mlp.down.weight.normal_(std=0.3, generator=torch.Generator().manual_seed(1))
    idx = torch.tensor([tokenizer.encode("The rose is ")])
    seen = []
    edited = hooked(model, [HeldNeuron(2, 17, 5.0), HeldNeuron(1, 3, 0.0)])
    with edited.layers[1].mlp.down.register_forward_pre_hook(lambda module, args: seen.append(args[0])):
        logits = edited(idx)[0]
    assert (seen[0][..., 16] == 5).all()
    assert seen[0][..., 15].unique().numel() > 1
    silenced = operate(model, "1.mlp.3:off")
    plus = trace(silenced, idx)
    x = (
        plus.residual[2]
        + (5 - F.relu(mlp_input(silenced, plus) @ silenced.layers[1].mlp.up.weight[16])[..., None] ** 2)
        * silenced.layers[1].mlp.down.weight[:, 16]
    )
    assert torch.allclose(logits, model.unembed(x), atol=1e-4)


def mlp_input(model: LanguageModel, traced) -> Tensor:
    """What the MLP of the second layer reads."""
    block, x = model.layers[1], traced.residual[1]
    heads = block.attention(block.norm(x), model.cos[: x.shape[1]], model.sin[: x.shape[1]])
    return block.norm(x + block.projection(heads))


@pytest.mark.parametrize("layer", [0, 1, 3])
def test_a_patch_puts_in_the_channels_of_another_text(layer: int, model: LanguageModel, idx: Tensor):
    other = trace(model, idx[1:]).residual
    run = trace_with(model, idx[:1], [ResidualPatch(layer, 4, other[layer, 0, 4])])
    clean = trace(model, idx[:1])
    assert torch.equal(run.residual[layer, 0, 4], other[layer, 0, 4])
    assert torch.allclose(run.residual[layer, 0, 5:], clean.residual[layer, 0, 5:], atol=1e-5)
    assert torch.allclose(run.residual[:layer], clean.residual[:layer], atol=1e-5)
    if layer < 3:
        assert not torch.allclose(run.residual[-1, 0, 4:], clean.residual[-1, 0, 4:], atol=1e-3)
    assert torch.allclose(run.residual[-1, 0, :4], clean.residual[-1, 0, :4], atol=1e-5)


@pytest.mark.parametrize(
    "edit",
    [
        AttentionCell(4, 1, 1, 0, 0.5),
        AttentionCell(1, 3, 1, 0, 0.5),
        AttentionCell(1, 1, T, 0, 0.5),
        HeldNeuron(4, 1, 1.0),
        HeldNeuron(1, 65, 1.0),
        ResidualPatch(4, 0, torch.zeros(16)),
        ResidualPatch(-1, 0, torch.zeros(16)),
        ResidualPatch(1, T, torch.zeros(16)),
        ResidualPatch(1, -1, torch.zeros(16)),
    ],
    ids=str,
)
def test_parts_that_are_not_there_are_told(edit, model: LanguageModel, idx: Tensor):
    with pytest.raises(CharlmError, match=r"There is no|no MLP"):
        trace_with(model, idx, [edit])


def test_a_neuron_is_held_at_a_number():
    with pytest.raises(CharlmError, match="not nan"):
        HeldNeuron(1, 1, float("nan"))


def test_the_rest_of_a_pass_is_the_pass(model: LanguageModel, idx: Tensor):
    for layer, x in enumerate(trace(model, idx).residual):
        assert torch.allclose(resume(model, x, layer), model(idx)[0], atol=1e-5)


def test_patching_is_what_hooks_one_by_one_give(
    model: LanguageModel, idx: Tensor, monkeypatch: pytest.MonkeyPatch
):
    """In pieces, as a long text would be."""
    monkeypatch.setattr(patching, "CHARS_AT_ONCE", 5 * T)
    first, second = idx
    result = patch(model, first, second)
    residual = trace(model, second[None]).residual

    def d(logits: Tensor) -> float:
        return (logits[0, -1, result.second_id] - logits[0, -1, result.first_id]).item()

    assert d(model(first[None])[0]) == pytest.approx(result.first, abs=1e-4)
    assert d(model(second[None])[0]) == pytest.approx(result.second, abs=1e-4)
    assert result.returned.shape == (4, T)
    for layer, position in [(0, 0), (0, T - 1), (1, 3), (2, 7), (2, T - 1), (3, T - 1), (3, 2)]:
        edited = hooked(model, [ResidualPatch(layer, position, residual[layer, 0, position])])
        logits = edited(first[None])[0]
        share = (d(logits) - result.first) / (result.second - result.first)
        assert result.returned[layer, position].item() == pytest.approx(share, abs=1e-3)
        probs = patch_cell(model, first, second, layer, position)
        assert torch.allclose(probs[2], logits[0, -1].softmax(0), atol=1e-5)
    assert torch.allclose(probs[0], model(first[None])[0][0, -1].softmax(0), atol=1e-5)
    assert torch.allclose(probs[1], model(second[None])[0][0, -1].softmax(0), atol=1e-5)


def test_the_ends_of_the_scale(model: LanguageModel, idx: Tensor):
    """Channels that are alike return nothing, the last ones everything."""
    first, second = idx[0], torch.cat((idx[0, :5], idx[1, 5:]))
    result = patch(model, first, second)
    assert result.second > result.first
    assert torch.allclose(result.returned[:, :5], torch.zeros(4, 5), atol=1e-3)
    assert result.returned[3, -1].item() == pytest.approx(1, abs=1e-3)
    assert torch.allclose(result.returned[3, :-1], torch.zeros(T - 1), atol=1e-3)


def test_the_characters_measured_are_those_that_gain_and_lose_most(model: LanguageModel, idx: Tensor):
    result = patch(model, *idx)
    change = model(idx)[0][:, -1].softmax(-1).diff(dim=0)[0]
    assert (result.first_id, result.second_id) == (int(change.argmin()), int(change.argmax()))


def test_texts_that_cannot_be_compared_are_told(model: LanguageModel, idx: Tensor):
    first = idx[0]
    with pytest.raises(CharlmError, match="continued alike"):
        patch(model, first, first)
    for function in (patch, lambda *args: patch_cell(*args, layer=0, position=0)):
        with pytest.raises(CharlmError, match="of one length, not 12 and 11"):
            function(model, first, first[:-1])
        with pytest.raises(CharlmError, match="at least one character"):
            function(model, first[:0], first[:0])
        with pytest.raises(CharlmError, match="reads 16 characters at a time, not 24"):
            function(model, first.repeat(2), first.repeat(2))
    for layer, position in [(4, 0), (-1, 0), (0, T), (0, -1)]:
        with pytest.raises(CharlmError, match="There is no cell"):
            patch_cell(model, first, idx[1], layer, position)
