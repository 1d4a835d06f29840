"""What the surgery panel says of a changed model, and computes of a text."""

from __future__ import annotations

import pytest
import torch
from conftest import make_model

import charlm
from charlm.errors import CharlmError
from charlm.models import LanguageModel
from charlm.surgery.edits import all_average, parse, text_of
from charlm.surgery.operate import operate
from charlm.tokenizer import CharTokenizer
from charlm.ui.surgery import numbers


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        ("", ""),
        ("5.4:silent", "Without head 5·4."),
        ("1.1:average", "With head 1·1 averaged."),
        ("1.1:x1.5 1.2:x1.5 2.1:x2", "With heads 1·1 and 1·2 ×1.5 and with head 2·1 ×2."),
        ("1.1:silent 1.2:silent 1.3:silent 1.4:silent", "Without 4 heads."),
        ("4.attention:off 6.mlp:off", "Without attention in layer 4 and without MLP 6."),
        (
            "6.mlp.17:off 1.mlp:off 2.mlp:off 3.mlp:off 4.attention:off 5.attention:off 1.1:average "
            "2.1:silent",
            "With head 1·1 averaged, without head 2·1, without attention in layers 4 and 5, "
            "without MLPs 1, 2 and 3 and without neuron 17 of MLP 6.",
        ),
        (" ".join(f"{n}.attention:off" for n in range(1, 5)), "Without attention in 4 layers."),
    ],
)
def test_a_sentence_says_what_is_changed(edits: str, said: str):
    assert numbers.sentence(parse(edits), 24) == said


def test_all_heads_are_told_together(trained: LanguageModel):
    assert numbers.sentence(all_average(trained), 4) == "With all 4 heads averaged."


def test_switches_show_what_a_model_was_made_by_and_what_is_wanted_now(trained: LanguageModel):
    shown = numbers.describe(trained, "", "1.2:x0 2.mlp:off")
    assert (shown["n_layer"], shown["n_head"], shown["mlp"]) == (2, 2, True)
    assert (shown["made"], shown["settings"]) == ({}, {"1.2": "silent", "2.mlp": "off"})
    kept = operate(trained, "1.2:silent")
    for shown in (
        numbers.describe(kept, "2.1:average", "1.2:learned"),
        numbers.describe(trained, "1.2:silent 2.1:average", "1.2:learned"),
    ):
        assert shown["made"] == {"1.2": "silent", "2.1": "average"}
        assert shown["settings"] == {"2.1": "average"}
        assert shown["sentence"] == "With head 2·1 averaged."


def test_models_without_heads_have_no_switches_and_those_of_heads_alone_no_mlp(tokenizer: CharTokenizer):
    assert numbers.describe(charlm.load("bigram"), "", "") == {}
    assert numbers.describe(make_model(tokenizer, "attention"), "", "")["mlp"] is False


@pytest.mark.parametrize("edits", ["nonsense", "3.1:silent", "1.3:silent", "1.1:x9"])
def test_edits_that_make_no_sense_are_refused_with_a_sentence(edits: str, trained: LanguageModel):
    with pytest.raises(CharlmError, match=r"\.$"):
        numbers.describe(trained, "", edits)


def test_the_loss_of_each_character_before_and_after(trained: LanguageModel):
    changed = operate(trained, text_of(all_average(trained)))
    text = "The rose is red"
    told = numbers.effect(trained, changed, f"é{text}")
    assert told["text"] == text
    ids = trained.tokenizer.encode(text)
    for name, model in (("before", trained), ("after", changed)):
        for i in range(1, len(ids)):
            p = model(torch.tensor([ids[:i]]))[0][0, -1].softmax(0)[ids[i]].item()
            assert told[name][i - 1] == pytest.approx(-torch.tensor(p).log().item(), abs=1e-4)
    assert told["before"] != told["after"]


def test_as_much_of_a_text_as_a_model_reads(trained: LanguageModel):
    told = numbers.effect(trained, trained, "The rose is red, and the sea is blue")
    assert told["text"] == " the sea is blue"
    assert len(told["before"]) == len(told["after"]) == 15
    assert numbers.effect(trained, trained, "T") == {"text": "T", "before": [], "after": []}
    with pytest.raises(CharlmError, match="nothing to look at"):
        numbers.effect(trained, trained, "é")
