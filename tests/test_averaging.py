from __future__ import annotations

import torch

from charlm.ui.averaging.numbers import Head, average_loop, average_softmax, average_tril, tril_weights


def test_the_first_three_versions_agree():
    x = torch.randn(4, 8, 2, generator=torch.Generator().manual_seed(1337))
    loop = average_loop(x)
    assert torch.allclose(loop[1, 3], x[1, :4].mean(0))
    assert torch.allclose(average_tril(x), loop, atol=1e-6)
    assert torch.allclose(average_softmax(x), loop, atol=1e-6)


def test_attention_is_the_same_average_when_all_scores_are_equal():
    x = torch.randn(4, 8, 6, generator=torch.Generator().manual_seed(1337))
    head = Head(n_embd=6, head_size=6)
    torch.nn.init.zeros_(head.query.weight)
    torch.nn.init.eye_(head.value.weight)
    assert torch.allclose(head(x), average_loop(x), atol=1e-6)


def test_attention_depends_on_the_data():
    torch.manual_seed(1)
    head, x = Head(6, 3), torch.randn(1, 8, 6)
    weights = head.weights(x)
    assert head(x).shape == (1, 8, 3)
    assert torch.allclose(weights.sum(-1), torch.ones(1, 8))
    assert weights.triu(1).count_nonzero() == 0
    assert not torch.allclose(weights, tril_weights(8), atol=0.05)
