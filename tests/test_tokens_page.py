"""The Tokens tab in a real browser: what is pointed at lights up everywhere and is told in a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from browser import PHONE, bring, open_tab, pick, set_number, watched_page

import charlm
from charlm import checkpoints
from charlm.models import build
from charlm.tokenizer import CharTokenizer
from charlm.ui.tokens import numbers as tokens

pytestmark = pytest.mark.slow

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
expect = playwright.expect
expect.set_options(timeout=30_000)
Page = playwright.Page


@contextmanager
def opened(url: str, chromium: playwright.Browser) -> Iterator[Page]:
    """Shared by the tests that only look."""
    with watched_page(chromium, reduced_motion="reduce", has_touch=True) as page:
        page.goto(f"{url}#tokens")
        page.locator("#tokens .token").first.wait_for()
        yield page


def say(page: Page) -> playwright.Locator:
    return page.locator("#tokens .say")


def test_a_grid_is_one_stop_that_arrows_walk_and_says_where_one_is(page: Page):
    grids = page.locator("#tokens :is([role=listbox], table)")
    expect(grids).to_have_count(5)
    for grid in grids.all():
        assert grid.locator('.item[tabindex="0"]').count() == 1
    page.get_by_role("listbox", name="Training split").locator(".item").first.focus()
    expect(say(page)).to_have_text(
        "“F” has id 18: place 0 of the text, in the training split. It is there twice."
    )
    page.keyboard.press("ArrowRight")
    expect(say(page)).to_contain_text("“i” has id 47: place 1")
    page.keyboard.press("End")
    expect(say(page)).to_contain_text("place 132 of the text, in the training split")
    page.keyboard.press("Tab")
    expect(say(page)).to_contain_text("“h” has id 46: place 133 of the text, in the validation split")
    page.keyboard.press("Tab")
    page.keyboard.press("End")
    expect(say(page)).to_have_text("id 64 is “z”: it is in your text twice.")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    expect(page.locator('[data-cell="x-1-0"]')).to_be_focused()
    expect(page.locator('[data-cell="x-1-0"]')).to_be_in_viewport(ratio=1)
    expect(say(page)).to_be_in_viewport(ratio=1)


def test_an_id_is_lit_wherever_it_is(page: Page):
    shown = tokens.explain(page.locator("#tokens-text textarea").input_value(), shakespeare(), 4, 8, 1337)
    cell = page.locator('[data-cell="y-2-1"]')
    cell.hover()
    target = shown["y"][2][1]
    everywhere = [*shown["ids"], *range(65), *(i for grid in "xy" for row in shown[grid] for i in row)]
    lit = page.locator("#tokens .same")
    expect(lit).to_have_count(everywhere.count(target))
    assert {*lit.locator("i").all_text_contents()} == {str(target)}
    start = shown["starts"][2]
    places = page.locator("#tokens-ids .lit").evaluate_all("all => all.map((c) => +c.dataset.place)")
    assert places == [start, start + 1]
    expect(page.locator("#tokens-ids .target")).to_have_attribute("data-place", str(start + 2))
    page.locator('[data-cell="x-0-0"]').tap()
    expect(say(page)).to_contain_text(f"x[0, 0] = {shown['x'][0][0]} ")
    expect(say(page)).to_contain_text(f"place {shown['starts'][0]} of the text")


def shakespeare() -> CharTokenizer:
    return charlm.load("bigram").tokenizer


def test_the_batch_is_two_tables_with_headers(page: Page):
    for name, caption in (("x", "what is read"), ("y", "the targets")):
        table = page.get_by_role("table", name=f"{name} (4, 8)")
        expect(table.locator("caption")).to_contain_text(caption)
        expect(table.locator("th[scope=row]")).to_have_text([str(b) for b in range(4)])
        expect(table.locator("th[scope=col]")).to_have_text([str(t) for t in range(8)])


def test_one_is_no_plural(fresh: Page):
    page = fresh
    page.locator("#tokens-text textarea").fill("F")
    expect(page.locator("#tokens h2").first).to_have_text("1 character, 1 id")
    expect(page.locator("#tokens-ids")).to_contain_text("the rest: 1 character")
    page.locator("#tokens-text textarea").fill("First")
    set_number(page, "tokens-block", "1")
    expect(page.get_by_role("heading", name="One chunk holds 1 example", exact=True)).to_be_visible()


def test_pieces_of_words_are_those_of_the_text(page: Page):
    text = page.locator("#tokens-text textarea").input_value()
    pieces = tokens.word_pieces(text, tokens.MERGES)
    expect(page.locator("#tokens .pieces span")).to_have_count(len(pieces))
    said = page.locator("#tokens section", has=page.locator(".pieces"))
    expect(said).to_contain_text(f"became {len(pieces)} tokens, {len(set(pieces))} of them different")


def test_the_vocabulary_may_be_that_of_a_model_of_ones_own(fresh: Page, tmp_path: Path):
    page = fresh
    chars = "xyz \n"
    model = build("bigram", CharTokenizer("".join(sorted(chars))), {"block_size": 8}, seed=1)
    checkpoints.save(model, {}, tmp_path / "model")
    checkpoints.pack(tmp_path / "model", tmp_path / "my letters.zip")
    bring(page, tmp_path / "my letters.zip")
    open_tab(page, "Tokens")
    expect(page.locator("#tokens-model")).to_be_hidden()
    page.get_by_text("a model's characters").click()
    pick(page, "tokens-model", "my letters")
    expect(page.locator("#tokens")).to_contain_text(f"vocab_size = {len(chars)}")
    expect(page.locator("#tokens-notes")).to_contain_text("the vocabulary lacks them")


def test_a_phone_shows_both_splits_and_large_targets(fresh: Page):
    page = fresh
    page.set_viewport_size(PHONE)
    page.locator("#tokens-text textarea").fill("To be, or not to be. " * 40)
    train, val = page.locator("#tokens-ids [role=listbox]").all()
    expect(val.locator(".item")).to_have_count(84)
    train.scroll_into_view_if_needed()
    page.evaluate("scrollTo(0, document.querySelector('#tokens-ids').getBoundingClientRect().top + scrollY)")
    for split in (train, val):
        expect(split.locator(".item").first).to_be_in_viewport(ratio=1)
    for item in ("#tokens-ids .item", "#tokens td.item"):
        box = page.locator(item).first.bounding_box()
        assert box["width"] >= 40 and box["height"] >= 40
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
