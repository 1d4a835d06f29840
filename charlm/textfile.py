"""The text of a file, whichever encoding it is in.

UTF-8 and what begins with a mark are read as such. Otherwise that encoding is taken under which the fewest
characters are out of place: in no alphabet of those who use it, or beside what they never stand beside. Where
even that one fits badly, charset_normalizer is asked, which knows more encodings but needs more text.
"""

from __future__ import annotations

import codecs
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import islice
from operator import add

import charset_normalizer

from charlm.errors import CharlmError

PIECE = 100_000
"""How much is worked on at a time, so that other threads get their turn in between."""
HEAD_BYTES, WORD_BYTES, MAX_WORDS = 4_000, 100, 200
"""What an encoding is guessed by: the beginning, and words beyond ASCII from the rest."""
SHOWN_CHARS = 60
"""How much of a line is shown on each side of its first character beyond ASCII."""

MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
WESTERN = {
    "Spanish": "áéíñóúüªº",
    "French": "àâæçèéêëîïôùûüÿœ",
    "German": "äöüß",
    "Portuguese": "àáâãçéêíóôõúªº",
    "Italian": "àèéìòù",
    "Dutch": "áèéêëïíóöü",
    "Catalan": "àçèéíïòóúü",
    "Swedish, Finnish": "åäéö",
    "Danish, Norwegian": "æéøå",
    "Icelandic": "áæðéíóöúýþ",
}
CENTRAL = {
    "Polish": "ąćęłńóśźż",
    "Czech": "áčďéěíňóřšťúůýž",
    "Slovak": "áäčďéíĺľňóôŕšťúýž",
    "Hungarian": "áéíóöőúüű",
    "Romanian": "âăîşţ",
    "Croatian, Slovene": "čćđšž",
}
BALTIC = {"Estonian": "äõöšüž", "Latvian": "āčēģīķļņšūž", "Lithuanian": "ąčęėįšųūž"}
TURKISH = {"Turkish": "âçğıîİöşûü"}
CYRILLIC = {
    "Russian, Bulgarian": "абвгдеёжзийклмнопрстуфхцчшщъыьэюя",
    "Ukrainian": "абвгґдеєжзиіїйклмнопрстуфхцчшщьюя",
    "Belarusian": "абвгдеёжзійклмнопрстуўфхцчшыьэюя",
    "Serbian": "абвгдђежзијклљмнњопрстћуфхцчџш",
}
GREEK = {"Greek": "αάβγδεέζηήθιίϊκλμνξοόπρσςτυύϋφχψωώ"}
HEBREW = {"Hebrew": "אבגדהוזחטיךכלםמןנסעףפץצקרשת"}
ARABIC = {"Arabic, Persian": "ءآأؤإئابةتثجحخدذرزسشصضطظعغفقكلمنهوىيپچژگـًٌٍَُِّْ،؛؟\u200c"}
THAI = {"Thai": "".join(map(chr, (*range(0x0E01, 0x0E3B), *range(0x0E3F, 0x0E5C))))}

PUNCTUATION = "“”„‘’‚«»‹›…–—·•¡¿°²\xa0\xad"
SIGNS = "©®±³½¼¾×÷§¶€£¥¢´™№†"
LAST_LATIN, LAST_OF_ALPHABETS = "\u024f", "\u1fff"
INSIDE_A_WORD = re.compile(r"(?<=[A-Za-zÀ-ɏ])[“”„‘‚«»‹›•¡¿ªº](?=[A-Za-zÀ-ɏ])")
ODD, ODD_BYTE = re.compile(r"[^\t-\r\x1b-~]"), re.compile(rb"[^\t-\r\x1b-~]")
"""What is neither printable ASCII nor white space nor a terminal's escape."""
CONTROL_BYTE = re.compile(rb"[\0-\b\x0e-\x1a\x7f]")
NEVER_WRITTEN = frozenset(map(chr, (*range(9), *range(14, 27), 0x7F, 0xFFFD)))


def decode_text(data: bytes) -> tuple[str, str]:
    """The text of a file, each of its lines ending in a newline alone, and a note: nothing for UTF-8, else a
    sentence that says what was assumed, with a line to check it by.

    Raises `CharlmError` if it is no text.
    """
    head = data[:HEAD_BYTES]
    if 10 * len(CONTROL_BYTE.findall(head)) <= len(head):
        try:
            return "".join(_pieces(data, "utf-8-sig", "strict")), ""
        except UnicodeDecodeError:
            pass
    encoding = next((name for mark, name in MARKS.items() if data.startswith(mark)), None) or _guess(data)
    damage, pieces = 0, []
    for piece in _pieces(data, encoding, "replace"):
        damage += piece.count("\ufffd")
        pieces.append(piece.replace("\ufffd", ""))
    fault = "damaged" if encoding.startswith("utf-8") else "not UTF-8"
    lost = f", without {damage:,} damaged character{'s' * (damage > 1)}" if damage else ""
    note = f"The file is {fault}: it was read as {encoding}{lost}; this should look right: “{_line(pieces)}”."
    return "".join(pieces), note


def _pieces(data: bytes, encoding: str, errors: str) -> Iterator[str]:
    file = io.TextIOWrapper(io.BytesIO(data), encoding, errors)
    while piece := file.read(PIECE):
        yield piece


def _line(pieces: list[str]) -> str:
    """The first line that is not all ASCII, else the first one; of a long line, the place."""
    piece = next((piece for piece in pieces if not piece.isascii()), "".join(pieces[:1]))
    found = re.search(r"[^\0-\x7f]", piece)
    at = found.start() if found else 0
    return piece[:at].rpartition("\n")[2][-SHOWN_CHARS:] + piece[at:].partition("\n")[0][:SHOWN_CHARS]


def _guess(data: bytes) -> str:
    """The encoding that fits `data` best. Raises `CharlmError` if none does."""
    head = data[:HEAD_BYTES]
    sample = b" ".join([head, *islice(_words(data), MAX_WORDS)])
    misplaced = {}
    for encoding, alphabets in _encodings().items():
        width = len("a".encode(encoding))
        known = sample if width == 1 else head  # Words of wider characters are not told by their bytes.
        misplaced[encoding] = width * _misfits(known.decode(encoding, "replace"), alphabets) / len(known)
    best = min(misplaced, key=misplaced.__getitem__)
    # The rest of a character whose beginning is cut off fits nowhere.
    if misplaced[best] * len(sample) <= 2 + len(ODD_BYTE.findall(sample)) / 10:
        return best
    binary = 50 * len(CONTROL_BYTE.findall(sample)) > len(sample)
    guess = None if binary else charset_normalizer.from_bytes(sample[-HEAD_BYTES:]).best()
    if guess is None:
        raise CharlmError("This file is not text: no encoding fits it.")
    return guess.encoding


def _words(data: bytes) -> Iterator[bytes]:
    """The words after the head that are not ASCII, each without its beginning if that is in another piece."""
    for start in range(HEAD_BYTES, len(data), PIECE):
        piece = data[start : start + PIECE]
        if not piece.isascii():
            yield from (word[:WORD_BYTES] for word in piece.split()[1:] if not word.isascii())


def _misfits(text: str, alphabets: list[frozenset[str]]) -> int:
    """How many characters of `text` nobody puts there who writes with one of `alphabets`.

    Without any, `text` was read as UTF-8, where nothing comes out well by chance: then it is how many more
    characters came out damaged than well.
    """
    odd = Counter(ODD.findall(text))
    if not alphabets:
        return 2 * sum(odd[char] for char in NEVER_WRITTEN) - odd.total()
    strange = odd.total() - max(sum(odd[char] for char in odd.keys() & letters) for letters in alphabets)
    pairs = Counter(map(add, text, text[1:]))
    apart = sum(n for pair, n in pairs.items() if not pair.isascii() and _never_meet(*pair))
    return strange + apart + len(INSIDE_A_WORD.findall(text))


def _never_meet(a: str, b: str) -> bool:
    """Whether nobody writes `b` after `a`: a capital after a small letter, letters of two scripts, or a sign
    beside a letter."""
    if a.isalpha() and b.isalpha():
        mixed = (a <= LAST_LATIN) != (b <= LAST_LATIN) and max(a, b) <= LAST_OF_ALPHABETS
        return mixed or (a.islower() and b.isupper())
    return (a.isalpha() and b in SIGNS) or (a in SIGNS and b.isalpha())


@cache
def _encodings() -> dict[str, list[frozenset[str]]]:
    """Encodings and the alphabets of those who use them; of two that fit equally well, the first counts."""
    western, central, cyrillic, greek = map(_alphabets, (WESTERN, CENTRAL, CYRILLIC, GREEK))
    signs = "".join(map(chr, (*range(0x3000, 0x3020), *range(0xFF01, 0xFF5F))))
    kana = "".join(map(chr, (*range(0x3041, 0x3097), *range(0x30A1, 0x30FD))))
    japanese = _alphabets({"Japanese": signs + kana + _common("euc-jp", 0xB0, 0xCF)})
    encodings = {
        "utf-8": [],
        "cp1252": western,
        "cp1250": central,
        "iso-8859-2": central,
        "cp1254": _alphabets(TURKISH),
        "cp1257": _alphabets(BALTIC),
        "cp1255": _alphabets(HEBREW),
        "cp1251": cyrillic,
        "koi8-u": cyrillic,
        "cp866": cyrillic,
        "iso-8859-5": cyrillic,
        "cp1253": greek,
        "iso-8859-7": greek,
        "cp1256": _alphabets(ARABIC),
        "iso-8859-15": western,
        "mac-roman": western,
        "cp850": western,
        "cp949": _alphabets({"Korean": signs + _common("euc-kr", 0xB0, 0xC8)}),
        "cp932": japanese,
        "euc-jp": japanese,
        "gb18030": _alphabets({"Simplified Chinese": signs + _common("gb2312", 0xB0, 0xD7)}),
        "big5": _alphabets({"Traditional Chinese": signs + _common("big5", 0xA4, 0xC6)}),
        "cp874": _alphabets(THAI),
    }
    everybody = list({alphabet for alphabets in encodings.values() for alphabet in alphabets})
    return encodings | dict.fromkeys(("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"), everybody)


def _alphabets(languages: Mapping[str, str]) -> list[frozenset[str]]:
    return [frozenset(a + a.upper() + PUNCTUATION + SIGNS) for a in languages.values()]


def _common(encoding: str, first: int, last: int) -> str:
    """The characters of a two-byte encoding whose first byte is from `first` to `last`: it begins with the
    common ones."""
    seconds = (*range(0x40, 0x7F), *range(0xA1, 0xFF))
    pairs = (bytes([lead, second]) for lead in range(first, last + 1) for second in seconds)
    return "".join(pair.decode(encoding, "ignore") for pair in pairs)
