from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlm import CharlmError, CharTokenizer, UnknownCharacterError
from charlm.tokenizer import named

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


def test_unknown_characters_are_named_with_the_position_of_the_first():
    tokenizer = CharTokenizer("abc")
    with pytest.raises(UnknownCharacterError, match="lacks “é” and “<”: the first is at position 2") as error:
        tokenizer.encode("abé<éc")
    assert (error.value.chars, error.value.char, error.value.position) == ("é<", "é", 2)
    assert tokenizer.unknown("éaéx") == "éx"
    assert tokenizer.replace_unknown("aébx") == "ab"
    assert tokenizer.replace_unknown("aébx", "c") == "acbc"


@pytest.mark.parametrize(
    ("chars", "sentence"),
    [
        ("é", "“é”"),
        ("ßא,", "“ß”, “א” and “,”"),
        (" \n\r\t", "a space, a line break, a carriage return and a tab"),
        ("\u200d\ufeff", "U+200D ZERO WIDTH JOINER and U+FEFF ZERO WIDTH NO-BREAK SPACE"),
        ("\x00\ud800\ue000", "U+0000, U+D800 and U+E000"),
        ("👩\ufe0f\u0301", "“👩”, U+FE0F VARIATION SELECTOR-16 and U+0301 COMBINING ACUTE ACCENT"),
    ],
)
def test_every_character_can_be_named(chars: str, sentence: str):
    assert named(chars) == sentence


def test_of_many_characters_twenty_are_named():
    assert named("abcdefghijklmnopqrst").endswith(", “s” and “t”")
    assert named("abcdefghijklmnopqrstuvwxyz").endswith(", “s”, “t” and 6 more")


@pytest.mark.parametrize("ids", [[3], [-1]])
def test_decode_refuses_ids_outside_the_vocabulary(ids: list[int]):
    with pytest.raises(CharlmError, match=str(ids[0])):
        CharTokenizer("abc").decode(ids)


@pytest.mark.parametrize("vocab", ["", "aa"])
def test_vocabulary_must_be_distinct_characters(vocab: str):
    with pytest.raises(CharlmError):
        CharTokenizer(vocab)
