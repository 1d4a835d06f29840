"""The benchmarks run and say what they measured. How fast anything is, no test asks."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import browser
import pytest
from conftest import TINY

from charlm import cli
from charlm.bench import generation, lesson, load, page, serving, training
from charlm.corpus import Corpus
from charlm.training import presets

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="they look into /proc"),
]


QUICK_APP = """
import os
from http.server import HTTPServer, SimpleHTTPRequestHandler
address = "127.0.0.1", int(os.environ["GRADIO_SERVER_PORT"])
HTTPServer(address, SimpleHTTPRequestHandler).serve_forever()
"""


@pytest.fixture
def bench(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(generation, "CHARS_EACH", 20)

    def bench(*options: object) -> dict[str, list[str]]:
        """The rows of all tables of a report, by what they begin with."""
        assert cli.main(["bench", *map(str, options)]) == 0
        rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()]
        return {row[0]: row[1:] for row in rows if len(row) > 1}

    return bench


@pytest.mark.thorough
def test_generation(bench):
    rows = bench("generation", "--rounds", 1)
    speeds = [rows[way] for way in ("charlm.stream", "plain KV cache", "the lecture's loop", "the estimate")]
    speeds += [rows["charlm"], rows["one visitor"], rows["32 visitors together"]]
    assert all(float(row[0].replace(",", "")) > 0 for row in speeds)
    assert float(rows["ratio"][0]) > 0


def test_load(bench, monkeypatch: pytest.MonkeyPatch):
    """What its visitors find is another test's: here, that it is asked for and told."""
    seen = []
    resources = load.Resources(500, 7, 110, 4)
    outcome = load.Outcome(seconds=1, written=[500], waits=[0.004, 0.1], before=resources, after=resources)
    outcome.unread["2 calls of /attention, never fetched"] = 501.0

    def measure(*asked: object, **options: object) -> load.Outcome:
        seen.append((*asked, options))
        return outcome

    monkeypatch.setattr(load, "measure", measure)
    monkeypatch.setattr(
        lesson, "measure", lambda *_: lesson.Lesson({"a page": [1.0, 2.0]}, ["no"], [5, 7], 9)
    )
    rows = bench("load", "--visitors", 10, "--seconds", 1)
    assert rows["a page"][:2] == ["2", "1.50"]
    assert rows["errors and refusals"] == ["1 no"] and rows["steps of the runs, from … to"] == ["5 to 7"]
    assert seen == [(10, 1, load.HABITS, {"calls": load.CALLS})]
    assert rows["errors"] == ["0"]
    assert rows["longest wait for a small file, ms"] == ["100"]
    assert rows["memory, before and after"] == ["500, 500"]
    assert rows["memory after 2 calls of /attention, never fetched"] == ["501"]


@pytest.mark.thorough
def test_page(bench, monkeypatch: pytest.MonkeyPatch):
    browser.skip_without_browser()
    monkeypatch.setattr(load, "CALM_SECONDS", 0)
    monkeypatch.setattr(page, "ONE_LINE_APP", QUICK_APP)
    rows = bench("page", "--rounds", 1, "--visitors", 2, "--seconds", 1)
    assert all(float(number) > 0 for number in rows["time to the first page, s"])
    assert "write in Chromium" in rows["requests"][0]
    requests, sizes = rows["first visit: requests"], rows["first visit: bytes"]
    assert int(requests[0]) > 1 and int(sizes[0].replace(",", "")) > 10_000
    again = rows["second visit: bytes"]
    assert int(again[0].replace(",", "")) < int(sizes[0].replace(",", ""))


@pytest.mark.parametrize(
    ("chromium", "found", "said"),
    [(None, True, "There is no Chromium"), ("chromium", False, "Playwright is not installed")],
)
def test_what_needs_a_browser_is_left_out_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, chromium: str | None, found: bool, said: str
):
    resources = load.Resources(500, 7, 110, 4)
    outcome = load.Outcome(seconds=1, written=[500], waits=[0.1], before=resources, after=resources)
    asked = []

    def measure(*_: object, in_browser: bool) -> load.Outcome:
        asked.append(in_browser)
        return outcome

    for name, value in (("start_up", "…"), ("first_text", "…")):
        monkeypatch.setattr(page, name, lambda rounds, value=value: value)
    monkeypatch.setattr(generation, "visitors", lambda *_: (1.0, 1.0, 1.0))
    monkeypatch.setattr(load, "measure", measure)
    monkeypatch.setattr(serving, "CHROMIUM", chromium)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if found else None)
    assert said in page.run(1, 1, 1)
    assert asked == [False]


def test_fuzz(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["bench", "fuzz", "--files", "50"]) == 0
    assert "50 mutated files" in capsys.readouterr().out


@pytest.mark.thorough
def test_training(bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, corpus: Corpus):
    for name, steps, sizes in (("small", 4, TINY), ("bigram", 20, {"block_size": 16})):
        preset = presets.PRESETS[name]
        options = replace(preset.options, steps=steps)
        monkeypatch.setitem(presets.PRESETS, name, replace(preset, sizes=sizes, options=options))
    text = tmp_path / "colours.txt"
    text.write_text(corpus.text)
    nanogpt = tmp_path / "nanoGPT"
    (nanogpt / "data" / "shakespeare_char").mkdir(parents=True)
    (nanogpt / "train.py").write_text("print('step 0: train loss 4.2, val loss 4.2')\n")
    rows = bench("training", "--rounds", 1, "--data", text, "--nanogpt", nanogpt)
    assert float(rows["nanoGPT's CPU recipe, whole run"][0]) >= 0
    assert rows["4"] and rows["20"]
    assert float(rows["ratio"][0]) > 0
    with pytest.raises(training.CharlmError, match="is no clone of nanoGPT"):
        training.nanogpt_seconds(tmp_path, corpus)


@pytest.mark.thorough
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_a_lesson(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, corpus: Corpus):
    text = tmp_path / "colours.txt"
    text.write_text(corpus.text)
    monkeypatch.setattr(lesson, "PAUSE_SECONDS", (0.0, 0.2))
    monkeypatch.setattr(lesson, "TRAINING_BEGINS", (0.0, 0.1))
    monkeypatch.setattr(lesson, "QUICK", {0: ("bigram", 5)})
    told = lesson.measure(2, 6, str(text))
    assert not told.errors
    assert len(told.waits[lesson.LOSS]) == len(told.steps) == 2
    assert len(told.waits[lesson.PAGE]) >= 2 and told.waits[lesson.WRITING]
    assert 5 in told.steps and len(told.waits[lesson.QUICK_END]) == 1
    assert told.memory > 100
