from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlm import CharlmError, CharTokenizer, UnknownCharacterError

TINY_SHAKESPEARE_VOCAB = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def test_lecture_example():
    tokenizer = CharTokenizer(TINY_SHAKESPEARE_VOCAB)
    assert tokenizer.vocab_size == 65
    assert tokenizer.encode("hii there") == [46, 47, 47, 1, 58, 46, 43, 56, 43]


@given(st.text(min_size=1))
def test_round_trip(text: str):
    tokenizer = CharTokenizer.from_text(text)
    assert tokenizer.vocab == "".join(sorted(set(text)))
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_unknown_character_is_named_with_its_position():
    tokenizer = CharTokenizer("abc")
    with pytest.raises(UnknownCharacterError, match=r"'\\xe9' at position 2") as error:
        tokenizer.encode("abéc")
    assert (error.value.char, error.value.position) == ("é", 2)
    assert tokenizer.unknown("éaéx") == "éx"
    assert tokenizer.replace_unknown("aébx") == "ab"
    assert tokenizer.replace_unknown("aébx", "c") == "acbc"


@pytest.mark.parametrize("ids", [[3], [-1]])
def test_decode_refuses_ids_outside_the_vocabulary(ids: list[int]):
    with pytest.raises(CharlmError, match=str(ids[0])):
        CharTokenizer("abc").decode(ids)


@pytest.mark.parametrize("vocab", ["", "aa"])
def test_vocabulary_must_be_distinct_characters(vocab: str):
    with pytest.raises(CharlmError):
        CharTokenizer(vocab)
