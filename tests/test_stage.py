"""The Generate tab: what its script is sent, and what a learner does with it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2 as httpx
import numpy as np
import pytest
import torch
from browser import TABS, open_tab, pick, set_number, watched_page

import charlm
from charlm.engine.sampling import Step, next_char_probs
from charlm.models import LanguageModel
from charlm.training.evaluation import evaluate
from charlm.ui.generate import wire

pytestmark = pytest.mark.slow

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
expect = playwright.expect
expect.set_options(timeout=20_000)
Page = playwright.Page
ASKED: dict[str, Any] = {
    **{"prompt": "ROMEO:", "model": "gpt", "temperature": 0.8, "top_k": 0, "top_p": 1.0},
    **{"length": 40, "seed": 7},
}


@contextmanager
def opened(url: str, chromium: playwright.Browser) -> Iterator[Page]:
    """The page, once it has greeted its visitor: shared by the tests that `write` one text of the GPT."""
    clipboard = ["clipboard-read", "clipboard-write"]
    with watched_page(chromium, expected="status of 4", permissions=clipboard) as page:
        page.goto(url)
        expect(page.locator("#written .ch").first).to_be_attached()
        yield page


def write(page: Page, length: int = 40, prompt: str = "ROMEO:", pace: str = "Infinity", **more: str) -> None:
    """Asks for a text of seed 7, at temperature 0.8 if no other is given."""
    page.locator("#prompt textarea").fill(prompt)
    if not page.locator("#length").is_visible():
        page.get_by_text("More settings").click()
        page.locator("#seed textarea, #seed input").wait_for()  # the last that Gradio unfolds
    for block, value in {"length": str(length), "seed": "7", "temperature": "0.8", **more}.items():
        set_number(page, block.replace("_", "-"), value)
    page.locator("#pace").select_option(pace)
    with page.expect_response("**/generate/write"):
        page.locator("#start").click()
    expect(page.locator("#written .status")).to_contain_text(f"{length} characters, seed 7")


def shown(page: Page) -> str:
    """What is played."""
    return "".join(page.locator("#written .ch:not(.ahead)").all_text_contents())


def text_of(model: LanguageModel, prompt: str, length: int, **options: Any) -> str:
    defaults = {"temperature": 0.8, "seed": 7}
    return "".join(
        step.char for step in charlm.stream(model, prompt, max_new_chars=length, **(defaults | options))
    )


SETTINGS = [
    {"temperature": 0.8},
    {"temperature": 0},
    {"temperature": 0.3},
    {"temperature": 2.0},
    {"temperature": 1.0, "top_k": 5},
    {"temperature": 2.0, "top_k": 30},
    {"temperature": 1.5, "top_p": 0.9},
    {"temperature": 1.2, "top_k": 12, "top_p": 0.95},
]
DECODE = """([text, vocab, settings]) => charlm.guesses.decode(text, [...vocab]).map((guess) => ({
    ...guess, believed: charlm.guesses.believed(guess), drawn: charlm.guesses.drawnFrom(guess, settings),
}))"""


def test_the_script_reads_what_was_drawn_from_and_believed(page: Page):
    for model, options in product(map(charlm.load, ("gpt", "bigram")), SETTINGS):
        steps = list(charlm.stream(model, "ROMEO:", max_new_chars=60, seed=1, **options))
        settings = {
            "temperature": options["temperature"],
            "topK": options.get("top_k", 0),
            "topP": options.get("top_p", 1),
        }
        guesses = page.evaluate(DECODE, [wire.encode(steps), model.tokenizer.vocab, settings])
        assert len(guesses) == len(steps)
        for step, guess in zip(steps, guesses, strict=True):
            check(step, guess)


def check(step: Step, guess: dict[str, Any]) -> None:
    """Exactly at the characters that come one by one, and nearly for all others together."""
    ids = [candidate["id"] for candidate in guess["candidates"]]
    place = guess["place"]
    assert guess["candidates"][place]["char"] == step.char
    for probs, told in ((next_char_probs(step.logits), guess["believed"]), (step.probs, guess["drawn"])):
        assert told["shares"] == pytest.approx(probs[ids], abs=0.01)
        assert told["rest"] == pytest.approx(1 - probs[ids].sum(), abs=0.025)
    assert guess["uniform"] == pytest.approx(step.uniform, abs=1e-5)
    end = guess["reached"] + guess["drawn"]["shares"][place]
    assert guess["reached"] - 0.001 <= step.uniform <= end + 0.01


def test_a_character_takes_less_than_sixty_bytes_on_the_wire(url: str):
    for model in ("gpt", "bigram"):
        answer = httpx.post(f"{url}generate/write", json=ASKED | {"model": model, "length": 1000})
        assert answer.headers["content-type"].startswith("text/plain")
        assert len(answer.content) / 1000 < 60


def test_a_large_vocabulary_and_a_small_one(page: Page):
    generator = np.random.default_rng(1)
    for size in (1, 3, 94, 95, 1000):
        logits = generator.normal(0, 3, (20, size)).astype(np.float32)
        ids = generator.integers(0, size, 20)
        vocab = "".join(chr(0x4E00 + i) for i in range(size))
        text = wire.encode_guesses(logits, ids, [0.5] * 20, [0.25] * 20)
        settings = {"temperature": 1, "topK": 0, "topP": 1}
        for row, i, guess in zip(logits, ids, page.evaluate(DECODE, [text, vocab, settings]), strict=True):
            candidate = guess["candidates"][guess["place"]]
            assert (candidate["id"], candidate["char"]) == (i, vocab[i])
            likeliest = guess["candidates"][0]
            assert math.exp(likeliest["log"]) == pytest.approx(next_char_probs(row).max(), rel=0.01)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"seed": -5}, "seed must be from 0 to"),
        ({"seed": 3.7}, "seed: Input should be a valid integer"),
        ({"temperature": -1}, "temperature must be 0 or more"),
        ({"length": 10**9}, "At most 5,000 characters"),
        ({"length": 0}, "max_new_chars must be at least 1"),
        ({"model": "../gpt"}, "no such model"),
        ({"prompt": "a" * 10_001}, "A prompt may have 10,000 characters"),
        ({"prompt": None}, "prompt: Input should be a valid string"),
        ({"prompt": "é and €"}, "lacks “é” and “€”"),
    ],
)
def test_what_cannot_be_written_is_told(change: dict[str, Any], sentence: str, url: str):
    answer = httpx.post(f"{url}generate/write", json=ASKED | change)
    assert answer.status_code in (400, 422)
    assert sentence in answer.json()["error"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'"a"'])
def test_what_is_no_request_is_told(body: bytes, url: str):
    for route in ("write", "score"):
        answer = httpx.post(f"{url}generate/{route}", content=body)
        assert answer.status_code == 400
        assert "error" in answer.json()


def test_a_visitor_is_greeted_by_a_text_and_its_guesses(fresh: Page):
    page = fresh
    expect(page.locator("#written .guess-row.chosen")).to_be_in_viewport()
    expect(page.locator("#written .strip .fell")).to_be_in_viewport()
    expect(page.locator("#written .ch").nth(60)).to_be_attached()
    expect(page.locator("#written .status")).to_contain_text("120 characters")


def test_whoever_wants_no_motion_sees_a_text_that_stands_still(url: str, chromium: playwright.Browser):
    page = chromium.new_page(reduced_motion="reduce")
    page.goto(url)
    expect(page.locator("#written .ch")).to_have_count(120)
    expect(page.locator("#play")).to_have_text("Play")
    page.close()


@pytest.mark.thorough
def test_the_pace(page: Page):
    counts = []
    for pace in ("5", "20"):
        write(page, 300, pace=pace)
        before = len(shown(page))
        page.wait_for_timeout(2000)
        page.locator("#play").click()
        counts.append(len(shown(page)) - before)
    assert 5 <= counts[0] <= 15
    assert 1.5 * counts[0] <= counts[1] <= 60


def test_steps_and_keys(page: Page, gpt: LanguageModel):
    text = text_of(gpt, "ROMEO:", 40)
    write(page)
    expect(page.locator("#play")).to_have_text("Play")
    assert shown(page) == text
    # Whoever has pressed Generate is at the text.
    page.keyboard.press("ArrowLeft")
    assert shown(page) == text[:-1]
    page.locator("#back").click()
    page.keyboard.press("Tab")
    page.locator("#forward").press("Enter")
    page.locator("#written .page").press("ArrowLeft")
    assert shown(page) == text[:-2]
    expect(page.locator("#written .ch.now")).to_have_text(text[-3])
    page.locator("#written .page").press("ArrowRight")
    page.locator("#forward").click()
    assert shown(page) == text
    page.locator("#written [type=range]").fill("10")
    assert shown(page) == text[:10]
    page.locator("#pace").select_option("1")
    page.locator("#written .page").press(" ")
    expect(page.locator("#play")).to_have_text("Pause")
    page.locator("#written .page").press(" ")
    expect(page.locator("#play")).to_have_text("Play")


def test_by_keyboard_alone(fresh: Page):
    page = fresh
    page.get_by_text("More settings").click()
    set_number(page, "length", "30")
    page.locator("#prompt textarea").focus()
    page.keyboard.press("End")
    page.keyboard.type(" O")
    while page.evaluate("document.activeElement.id") != "start":
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#written .prompt")).to_have_text("ROMEO: O")
    expect(page.locator("#written .ch").nth(9)).to_be_attached()
    page.keyboard.press(" ")
    expect(page.locator("#play")).to_have_text("Play")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Tab")
    put = page.evaluate("document.activeElement.textContent")
    page.keyboard.press("Enter")
    expect(page.locator("#written .ch.forced")).to_have_text(put.replace("␣", " ").replace("↵", "\n"))
    expect(page.locator("#written .versions button")).to_have_count(2)


def test_the_guess_at_a_character_follows_the_temperature(page: Page, gpt: LanguageModel):
    write(page)
    step = list(charlm.stream(gpt, "ROMEO:", max_new_chars=40, temperature=0.8, seed=7))[4]
    page.locator("#written .ch").nth(4).click()
    chosen = page.locator("#written .guess-row.chosen")

    def told(name: str) -> float:
        return float(chosen.locator(f".{name}.bar-value").inner_text().strip("<").removesuffix("%")) / 100

    i = step.id
    assert told("believed") == pytest.approx(next_char_probs(step.logits)[i], abs=0.002)
    assert told("drawn") == pytest.approx(step.probs[i], abs=0.002)
    expect(page.locator("#written .guess")).to_contain_text(f"The draw: {step.uniform:.3f} fell on")
    set_number(page, "temperature", "1.7")
    expect(page.locator("#written .guess")).to_contain_text("the text was written with others")
    assert told("drawn") == pytest.approx(next_char_probs(step.logits, 1.7)[i], abs=0.003)
    set_number(page, "temperature", "0")
    expect(page.locator("#written .guess")).to_contain_text("At temperature 0 nothing is drawn")


def test_what_if(fresh: Page, gpt: LanguageModel):
    """Another character is put, and the text goes on from it; the branches stay, and a link leads there."""
    page = fresh
    write(page)
    text = text_of(gpt, "ROMEO:", 40)
    page.locator("#written .ch").nth(9).click()
    other = page.locator("#written .guess-row button").first
    char = other.inner_text().replace("␣", " ").replace("↵", "\n")
    other.press("Enter")
    branch = text[:9] + char + text_of(gpt, "ROMEO:" + text[:9] + char, 30)
    expect(page.locator("#written .ch:not(.ahead)")).to_have_count(40)
    assert shown(page) == branch
    expect(page.locator("#written .ch.forced")).to_have_count(1)
    versions = page.locator("#written .versions button")
    versions.first.click()
    assert shown(page) == text
    versions.last.click()
    page.get_by_role("button", name="Link").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    address = page.evaluate("navigator.clipboard.readText()")
    assert json.loads(parse_qs(urlsplit(address).query)["path"][0]) == [[9, char]]
    page.goto(address)
    page.locator("#pace").select_option("Infinity")
    expect(page.locator("#written .ch.forced")).to_have_count(1)
    expect(page.locator("#written .ch:not(.ahead)")).to_have_count(40)
    assert shown(page) == branch


def test_what_is_typed_after_a_link_was_opened_survives_a_reload(fresh: Page, url: str):
    page = fresh
    page.goto(f"{url}?prompt=JULIET:&length=20&seed=7&rival=bigram&samples=2")
    expect(page.locator("#written .pane")).to_have_count(4)
    expect(page.locator("#prompt textarea")).to_have_value("JULIET:")
    page.locator("#prompt textarea").fill("HAMLET:")
    expect(page).to_have_url(url)
    page.wait_for_timeout(500)
    page.reload()
    expect(page.locator("#prompt textarea")).to_have_value("HAMLET:")
    expect(page.locator("#written .prompt")).to_have_text("HAMLET:")


def test_how_surprised_it_is(fresh: Page, gpt: LanguageModel):
    """By a text of one's own, which may be longer than a model reads at once."""
    page = fresh
    text = "To be, or not to be: that is the question.\n" * 8
    page.locator("#prompt textarea").fill(text)
    page.locator("#score").click()
    loss = evaluate(gpt, torch.tensor(gpt.tokenizer.encode(text)))
    losses = page.locator("#written .losses")
    expect(losses).to_contain_text(f"Prompt: {loss:.2f} nats per character")
    expect(losses).to_contain_text(re.compile(f"among {math.exp(loss):.1f}"))
    expect(page.locator("#written .ch")).to_have_count(0)
    page.locator("#written .prompt span").nth(3).hover()
    expect(page.locator("#written .guess .what")).to_contain_text("you wrote b")


def test_two_models_and_several_samples_play_in_step(fresh: Page, gpt: LanguageModel):
    page = fresh
    page.get_by_text("More settings").click()
    page.locator("#rival input").click()
    page.get_by_role("option", name="Bigram table", exact=True).click()
    write(page, 30, samples="2")
    panes = page.locator("#written .pane")
    expect(panes.locator("strong")).to_have_text(["GPT, six layers"] * 2 + ["Bigram table"] * 2)
    for i, (model, seed) in enumerate([("gpt", 7), ("gpt", 8), ("bigram", 7), ("bigram", 8)]):
        expect(panes.nth(i).locator(".ch")).to_have_count(30)
        written = "".join(panes.nth(i).locator(".ch").all_text_contents())
        assert written == text_of(charlm.load(model), "ROMEO:", 30, seed=seed)
    page.locator("#back").click()
    for i in range(4):
        expect(panes.nth(i).locator(".ch.ahead")).to_have_count(1)


def test_stop_ends_the_writing_on_the_server(fresh: Page):
    page = fresh
    page.get_by_text("More settings").click()
    set_number(page, "length", "5000")
    page.locator("#start").click()
    expect(page.locator("#stop")).to_be_visible()
    page.locator("#stop").click()
    expect(page.locator("#stop")).to_be_hidden()
    status = page.locator("#written .status")
    expect(status).to_contain_text("stopped")
    told = status.inner_text()
    page.wait_for_timeout(500)
    assert status.inner_text() == told


def test_what_cannot_be_written_is_told_on_the_page(fresh: Page):
    """And unknown characters can be dropped."""
    page = fresh
    page.get_by_text("More settings").click()
    set_number(page, "seed", "3.7")
    page.locator("#start").click()
    expect(page.locator("#written .note")).to_contain_text("seed: Input should be a valid integer")
    set_number(page, "seed", "7")
    page.locator("#prompt textarea").fill("<b>Café</b>")
    page.locator("#start").click()
    expect(page.locator("#written .note")).to_contain_text("lacks “<”, “>”, “é” and “/”")
    page.get_by_role("button", name="Drop them").click()
    expect(page.locator("#written .prompt")).to_have_text("bCafb")
    expect(page.locator("#written .note")).to_have_count(0)
    assert page.locator("#prompt textarea").input_value() == "bCafb"


@pytest.mark.thorough
def test_on_a_phone(url: str, chromium: playwright.Browser):
    page = chromium.new_page(viewport={"width": 390, "height": 844}, has_touch=True)
    page.goto(url)
    expect(page.locator("#written .ch").nth(5)).to_be_in_viewport()
    expect(page.locator("#written .guess-row").nth(2)).to_be_in_viewport()
    page.locator("#play").tap()
    page.locator("#written .ch").nth(2).tap()
    expect(page.locator("#written .guess .what")).to_be_in_viewport()
    for name in ("play", "back", "forward", "pace"):
        assert page.locator(f"#{name}").bounding_box()["height"] >= 38
    page.close()


def test_the_seed_is_new_each_time_until_one_is_given(fresh: Page):
    page = fresh
    status = page.locator("#written .status")
    page.get_by_text("More settings").click()
    expect(page.locator("#seed textarea, #seed input")).to_have_value("")
    seeds = set()
    for _ in range(2):
        before = status.inner_text()
        page.locator("#start").click()
        expect(status).not_to_have_text(before)
        expect(status).to_contain_text(re.compile("500 characters, seed [0-9]+"))
        seeds.add(status.inner_text())
    assert len(seeds) == 2


def test_a_rival_that_is_taken_away_leaves_the_screen(fresh: Page, gpt: LanguageModel):
    """And one that is the model itself writes a second sample."""
    page = fresh
    page.get_by_text("More settings").click()
    pick(page, "rival", "GPT, six layers")
    write(page, 30)
    panes = page.locator("#written .pane")
    for i, seed in enumerate((7, 8)):
        expect(panes.nth(i).locator(".ch")).to_have_count(30)
        written = "".join(panes.nth(i).locator(".ch").all_text_contents())
        assert written == text_of(gpt, "ROMEO:", 30, seed=seed)
    pick(page, "rival", "Nobody")
    expect(panes).to_have_count(1)
    pick(page, "rival", "Bigram table")
    write(page, 31)
    expect(panes).to_have_count(2)
    pick(page, "rival", "One attention head")
    expect(panes).to_have_count(1)


def test_home_end_and_lines(page: Page):
    write(page, 200)
    expect(page.locator("#written .ch")).to_have_count(200)
    page.locator("#written .page").focus()
    page.keyboard.press("Home")
    assert len(shown(page)) == 1
    page.keyboard.press("ArrowDown")
    after = shown(page)
    assert 1 < len(after) < 200
    page.keyboard.press("ArrowUp")
    assert len(shown(page)) == 1
    page.keyboard.press("End")
    assert len(shown(page)) == 200
    expect(page.get_by_role("status").filter(has_text="which it believed in by")).to_be_visible()


def test_a_text_waits_while_another_tab_is_open(page: Page):
    write(page, 300, pace="20")
    open_tab(page, "Averaging")
    page.locator(TABS["Averaging"]).first.wait_for()
    before = len(shown(page))
    page.wait_for_timeout(2000)
    assert len(shown(page)) == before
    open_tab(page, "Generate")
    page.wait_for_timeout(500)
    assert before < len(shown(page)) < before + 30


def test_what_if_at_the_end_of_a_text(page: Page, gpt: LanguageModel):
    """The text goes on a little."""
    write(page, 20)
    expect(page.locator("#written .ch")).to_have_count(20)
    other = page.locator("#written .guess-row button").first
    char = {"␣": " ", "↵": "\n"}.get(other.inner_text(), other.inner_text())
    text = shown(page)[:19] + char
    other.click()
    expect(page.locator("#written .ch")).to_have_count(50)
    assert shown(page) == text + text_of(gpt, "ROMEO:" + text, 30)


def test_no_guess_stays_that_is_of_another_text(page: Page):
    write(page, 20)
    expect(page.locator("#written .guess-row")).not_to_have_count(0)
    page.locator("#prompt textarea").fill("")
    page.locator("#score").click()
    expect(page.locator("#written .note")).to_contain_text("Type two characters or more")
    expect(page.locator("#written .guess-row")).to_have_count(0)
    expect(page.locator("#written .what")).to_be_empty()
