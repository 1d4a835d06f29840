from __future__ import annotations

import io
import json
import random
import subprocess
import sys
import urllib.request
import zipfile
from http.client import IncompleteRead
from pathlib import Path

import charset_normalizer
import pytest
import torch

from charlm import CharlmError, Corpus, get_batch, load_corpus
from charlm import corpus as corpus_module
from charlm.bench.serving import ROOT
from charlm.textfile import decode_text
from charlm.tokenizer import CharTokenizer
from charlm.ui.train.numbers import text_of

WRITTEN = {
    "¿Qué tal, señor? ¡Adiós, corazón!": "cp1252 iso-8859-1 utf-16-le utf-16-be utf-32-le",
    "Ça va très bien : l'œuvre coûte 5 €.": "cp1252 iso-8859-15 mac-roman",
    "Wer reitet so spät durch Nacht und Wind? Er hält ihn warm.": "cp1252 mac-roman cp850",
    "A canção do coração não é fácil, porém há esperança": "cp1252 mac-roman",
    "Perché non è così? La città è più bella.": "cp1252",
    "De ideeën van de coördinator uit België": "cp1252",
    "Får får får? Två små ägg på fatet": "cp1252 mac-roman",
    "Rødgrød med fløde, blåbærsyltetøy på brød": "cp1252 mac-roman",
    "Hyvää päivää! Tämä on yö.": "cp1252",
    "Góðan daginn, þú! Það er ágætt": "cp1252",
    "Zażółć gęślą jaźń, święty Mikołaju": "cp1250 iso-8859-2 cp852",
    "Příliš žluťoučký kůň": "cp1250 iso-8859-2",
    "Árvíztűrő tükörfúrógép": "cp1250 iso-8859-2",
    "Bună ziua, ce mai faceţi? Ţara mea şi pâinea": "cp1250 iso-8859-2",
    "Što radiš, čovječe? Kuća je pokraj šume, žao mi je": "cp1250 iso-8859-2",
    "Visi žmonės gimsta laisvi ir lygūs": "cp1257",
    "İstanbul çok güzel şehir, değil mi?": "cp1254",
    "Привет, как дела? Съешь ещё этих булок": "cp1251 koi8-r cp866 iso-8859-5 utf-16-le utf-16-be",
    "Її ґанок був порожній, як справи?": "cp1251 koi8-u utf-16-le",
    "Καλημέρα, τι κάνεις; Πού είναι ο Άγγελος;": "cp1253 iso-8859-7",
    "שלום, מה שלומך?": "cp1255 utf-16-be",
    "مرحبا، كيف حالك؟": "cp1256",
    "สวัสดีครับ วันนี้อากาศดี": "cp874",
    "吾輩は猫である。Python入門はまだ無い。": "shift_jis euc-jp utf-16-le",
    "你好，最近怎么样？今天天气很好。": "gb18030 utf-16-le utf-16-be",
    "你好，最近怎麼樣？今天天氣很好。": "big5",
    "안녕하세요, 반갑습니다.": "euc-kr",
}
"""Short texts, and encodings in which people have them."""
IN_AN_ENCODING = [(text, encoding) for text, encodings in WRITTEN.items() for encoding in encodings.split()]


def test_split_is_90_10_and_loses_nothing(corpus: Corpus, tokenizer: CharTokenizer):
    train, val = corpus.split(tokenizer)
    assert len(train) == int(0.9 * len(corpus.text))
    assert tokenizer.decode(train.tolist()) + tokenizer.decode(val.tolist()) == corpus.text


def test_batch_targets_are_the_inputs_shifted_by_one():
    data = torch.arange(100)
    x, y = get_batch(data, 7, 8, torch.Generator().manual_seed(1))
    assert x.shape == y.shape == (7, 8)
    assert torch.equal(y, x + 1)


def test_batches_reach_every_chunk_the_last_included():
    data = torch.arange(12)
    x, _ = get_batch(data, 2000, 8, torch.Generator().manual_seed(1))
    assert set(x[:, 0].tolist()) == {0, 1, 2, 3}


def test_too_short_a_text_is_refused():
    with pytest.raises(CharlmError, match="need 9 characters: this text has 8"):
        get_batch(torch.arange(8), 1, 8)


def test_any_utf8_file_is_a_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "own.txt"
    path.write_text("naïve café", encoding="utf-8")
    assert load_corpus(path) == Corpus("naïve café", "own.txt")
    monkeypatch.setenv("CHARLM_DATA", str(path))
    assert load_corpus().name == "own.txt"


def test_unreadable_files_are_refused_in_a_sentence(tmp_path: Path):
    with pytest.raises(CharlmError, match=r"^Cannot read missing.txt: No such file or directory\.$"):
        load_corpus(tmp_path / "missing.txt")
    (tmp_path / "zeros.txt").write_bytes(bytes(1000))
    with pytest.raises(CharlmError, match=r"^Cannot read zeros.txt: This file is not text: no encoding fits"):
        load_corpus(tmp_path / "zeros.txt")


def test_a_corpus_of_31_megabytes_loads(tmp_path: Path):
    text = "Naïve, was sie?\n" * 1_830_000
    path = tmp_path / "long.txt"
    path.write_text(text, encoding="utf-8", newline="\r\n")
    assert path.stat().st_size > 31_000_000
    assert load_corpus(path).text == text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252", "mac-roman"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_line_ends_in_a_newline_alone(end: str, encoding: str):
    text = "".join(f"Zeile {n} für später\n" for n in range(20_000))
    assert decode_text(text.replace("\n", end).encode(encoding))[0] == text


def test_a_copy_with_other_line_ends_is_the_same_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    text = "Before we proceed any further,\nhear me speak.\n"
    monkeypatch.setattr(corpus_module, "TINY_SHAKESPEARE_SHA256", Corpus(text, "").sha256)
    path = tmp_path / "copy.txt"
    path.write_bytes(text.replace("\n", "\r\n").encode())
    assert load_corpus(path) == Corpus(text, "Tiny Shakespeare")


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_nothing_is_said_of_utf8(mark: str):
    text = "¿Qué tal? Привет, 你好 👋\n"
    assert decode_text((mark + text).encode()) == (text, "")
    assert decode_text(b"") == ("", "")


@pytest.mark.parametrize(("text", "encoding"), IN_AN_ENCODING)
def test_encodings_are_found(text: str, encoding: str):
    read, note = decode_text(f"[1]\n{text}\n".encode(encoding))
    assert read == f"[1]\n{text}\n"
    assert note.startswith("The file is not UTF-8: it was read as ")
    assert note.endswith(f"; this should look right: “{text}”.")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_a_mark_tells_the_encoding(encoding: str):
    expected = f"The file is not UTF-8: it was read as {encoding}; this should look right: “ⵜⴰⵎⴰⵣⵉⵖⵜ”."
    assert decode_text("ⵜⴰⵎⴰⵣⵉⵖⵜ".encode(encoding)) == ("ⵜⴰⵎⴰⵣⵉⵖⵜ", expected)


@pytest.mark.parametrize(
    ("data", "text", "lost"),
    [
        ("Où est la gare ?".encode() + b"\xe9 Ici.", "Où est la gare ? Ici.", "1 damaged character"),
        ("\ufeffNoël déjà".encode() + b"\xff\xfe.", "Noël déjà.", "2 damaged characters"),
        ("Für fünf €".encode()[:-1], "Für fünf ", "1 damaged character"),
        ("“Für fünf".encode()[1:], "Für fünf", "2 damaged characters"),
        ("ägg på fatet, två små".encode()[1:], "gg på fatet, två små", "1 damaged character"),
        ("Привет, как дела?".encode()[1:-2], "ривет, как дел", "2 damaged characters"),
        ("Où est-il ?".encode("utf-16") + b"\0", "Où est-il ?", "1 damaged character"),
    ],
)
def test_what_is_damaged_is_left_out_and_that_is_said(data: bytes, text: str, lost: str):
    read, note = decode_text(data)
    assert read == text
    assert f", without {lost};" in note


@pytest.mark.parametrize("name", ["picture", "archive", "random", "floats", "zeros", "zeros and text"])
def test_what_is_no_text_is_refused(name: str):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.write(ROOT / "README.md")
    data = {
        "picture": (ROOT / "charlm" / "ui" / "pictures" / "train.png").read_bytes(),
        "archive": archive.getvalue(),
        "random": random.Random(1).randbytes(10_000),
        "floats": torch.randn(1000, generator=torch.Generator().manual_seed(1)).numpy().tobytes(),
        "zeros": bytes(1000),
        "zeros and text": bytes(100) + b"abc" * 10,
    }[name]
    with pytest.raises(CharlmError, match="This file is not text"):
        decode_text(data)


def test_a_long_text_is_known_by_a_sample(monkeypatch: pytest.MonkeyPatch):
    asked = []
    from_bytes = charset_normalizer.from_bytes

    def note(data: bytes, **options: object) -> object:
        asked.append(len(data))
        return from_bytes(data, **options)

    monkeypatch.setattr(charset_normalizer, "from_bytes", note)
    text = "To be, or not to be.\n" * 200_000 + "Zażółć gęślą jaźń, święty Mikołaju\n" * 20_000
    for encoding in ("cp1250", "cp852"):
        assert decode_text(text.encode(encoding))[0] == text
    assert len(asked) == 1
    assert asked[0] <= 4_000


def test_whoever_trains_on_a_file_is_told_how_it_was_read(tmp_path: Path):
    path = tmp_path / "book.txt"
    path.write_bytes("¿Qué tal?\n".encode("cp1252"))
    said = "The file is not UTF-8: it was read as cp1252; this should look right: “¿Qué tal?”."
    assert text_of(str(path)) == ("¿Qué tal?\n", [said])
    path.write_bytes("¿Qué tal?\r\n".encode())
    assert text_of(str(path)) == ("¿Qué tal?\n", [])


@pytest.mark.slow
def test_the_command_line_tells_how_a_file_was_read(tmp_path: Path):
    path = tmp_path / "book.txt"
    path.write_bytes(("The rose is red, and the sea is blue.\n" * 40).encode("utf-16-le"))
    command = [sys.executable, "-m", "charlm", "evaluate", "bigram", "--json", "--data", str(path)]
    result = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", cwd=ROOT)
    assert json.loads(result.stdout)["val_chars"] == 152
    assert result.stderr == (
        "book.txt: The file is not UTF-8: it was read as utf-16-le; "
        "this should look right: “The rose is red, and the sea is blue.”.\n"
    )


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("CHARLM_DATA", raising=False)
    monkeypatch.setattr(corpus_module, "user_cache_dir", lambda *a, **k: str(tmp_path / "cache"))
    return tmp_path / "cache" / "tinyshakespeare.txt"


def serve(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", lambda *a, **k: io.BytesIO(data))


def test_download_is_verified_and_cached(cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(corpus_module, "TINY_SHAKESPEARE_SHA256", Corpus("Before we proceed", "").sha256)
    serve(monkeypatch, b"Before we proceed")
    assert load_corpus() == Corpus("Before we proceed", "Tiny Shakespeare")
    serve(monkeypatch, b"")
    assert load_corpus().text == "Before we proceed", "the second time it comes from the cache"
    cache.write_bytes(b"damaged")
    with pytest.raises(CharlmError, match="sha256 differs"):
        load_corpus()


def test_no_internet_is_told_in_a_sentence(cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(corpus_module, "TINY_SHAKESPEARE_URL", "http://127.0.0.1:9/none")
    with pytest.raises(CharlmError, match=r"could not be downloaded.*--data"):
        load_corpus()
    assert not cache.exists()


def test_without_a_place_to_keep_it_the_download_is_used(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.chdir(cache.parent.parent)
    monkeypatch.setattr(corpus_module, "TINY_SHAKESPEARE_SHA256", Corpus("Before we proceed", "").sha256)
    Path("file").touch()
    for folder, reason in (("file/charlm", "Not a directory"), ("~/.cache/charlm", "no home folder")):
        path = folder if folder[0] == "~" else str(Path(folder).absolute())
        monkeypatch.setattr(corpus_module, "user_cache_dir", lambda *a, path=path, **k: path)
        serve(monkeypatch, b"Before we proceed")
        assert load_corpus() == Corpus("Before we proceed", "Tiny Shakespeare")
        assert "Tiny Shakespeare is not kept" in caplog.messages[-1]
        assert reason in caplog.messages[-1]
    assert not Path("~").exists()


def test_a_download_that_breaks_off_is_told_in_a_sentence(cache: Path, monkeypatch: pytest.MonkeyPatch):
    def break_off(*_: object, **__: object) -> None:
        raise IncompleteRead(b"Before", 10)

    monkeypatch.setattr(urllib.request, "urlopen", break_off)
    with pytest.raises(CharlmError, match="could not be downloaded"):
        load_corpus()
