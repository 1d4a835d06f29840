"""The Bigram tab in a real browser: the grid and what follows it, one's own tables, and the walk."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from browser import DESK, PHONE, bring, open_tab, pick, set_number, wait_until_trained, watched_page
from playwright.sync_api import Locator

import charlm
from charlm import checkpoints
from charlm.models import build
from charlm.service.limits import MAX_VOCAB_SIZE
from charlm.tokenizer import CharTokenizer
from charlm.ui.bigram import numbers as bigram

pytestmark = pytest.mark.slow

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
expect = playwright.expect
expect.set_options(timeout=30_000)
Page = playwright.Page


@contextmanager
def opened(url: str, chromium: playwright.Browser) -> Iterator[Page]:
    """Shared by the tests that choose no other character, model or temperature."""
    with watched_page(chromium, reduced_motion="reduce", has_touch=True) as page:
        page.goto(url)
        yield page


def open_bigram(page: Page) -> Locator:
    open_tab(page, "Bigram")
    page.locator("#bigram-tables canvas").wait_for()
    page.locator("#bigram-next .bar-row").first.wait_for()
    return page.locator("#bigram-tables .board")


def place(board: Locator, before: str, following: str) -> dict[str, float]:
    """Where the cell of a pair of the committed table lies."""
    tokenizer = charlm.load("bigram").tokenizer
    row, column = tokenizer.encode(before + following)
    cell = board.bounding_box()["width"] / tokenizer.vocab_size
    return {"x": (column + 0.5) * cell, "y": (row + 0.5) * cell}


def percent(p: float) -> str:
    return "100 %" if p >= 0.9995 else "0 %" if p == 0 else "<0.1 %" if p < 0.001 else f"{100 * p:.1f} %"


def said_of(before: str, following: str) -> re.Pattern[str]:
    model = charlm.load("bigram")
    rows = bigram.next_chars(model, before, 1)
    (row,) = [row for row in rows if row["char"] == following]
    seen = sum(r["count"] for r in rows)
    learned = f"learned e^.* = {percent(row['prob'])}"
    counted = f"counted {row['count']:,.0f} of {seen:,.0f} = {percent(row['counted'])}"
    sentence = f"{re.escape(before)} is followed by {re.escape(following)}: {learned}; {counted}"
    return re.compile(sentence.replace("^", "\\^").replace(" ", "\\s"))


def test_a_cell_says_what_it_is_made_of(page: Page):
    board, say = open_bigram(page), page.locator("#bigram-tables .say")
    board.hover(position=place(board, "t", "h"))
    expect(say).to_contain_text(said_of("t", "h"))
    board.press("ArrowDown")
    expect(say).to_contain_text(said_of("u", "h"))
    board.hover(position=place(board, "$", "l"))
    expect(say).to_contain_text("counted 1 of 1 = 100 %")
    board.hover(position=place(board, "$", "m"))
    expect(say).to_contain_text("counted 0 of 1 = 0 %")
    expect(say).to_be_in_viewport(ratio=1)


def test_one_grid_shows_three_tables_each_with_its_scale(page: Page):
    open_bigram(page)
    maps, scale = page.locator("#bigram-tables canvas"), page.locator("#bigram-tables .scale")
    caption = page.locator("#bigram-tables figcaption")
    expect(maps).to_have_attribute("data-map", "learned")
    expect(scale).to_contain_text("25.0 %")
    page.get_by_label("Counted", exact=True).check()
    expect(maps).to_have_attribute("data-map", "counted")
    expect(caption).to_contain_text("2,845 of 4,225 counts are 0")
    page.get_by_label("Learned − counted").check()
    expect(maps).to_have_attribute("data-map", "difference")
    learned, counted = bigram.tables(charlm.load("bigram"))
    largest = (learned - counted).abs().max().item()
    expect(scale).to_contain_text(re.compile(f"−{100 * largest:.1f} .* {100 * largest:.1f} "))
    page.keyboard.press("ArrowLeft")
    expect(maps).to_have_attribute("data-map", "counted")
    expect(maps).to_have_count(1)
    expect(page.locator(".js-plotly-plot")).to_have_count(0)


def test_a_row_of_the_grid_is_chosen(fresh: Page):
    page = fresh
    board = open_bigram(page)
    menu, heading = page.locator("#bigram-char input"), page.locator("#bigram-next h2")
    expect(menu).to_have_value("t")
    expect(heading).to_have_text("What follows t")
    for way, char, likeliest in (("click", "q", "u"), ("tap", "t", "h"), ("Enter", "q", "u")):
        if way == "Enter":
            board.hover(position=place(board, "p", "e"))
            board.press("ArrowDown")
            board.press("Enter")
        else:
            getattr(board, way)(position=place(board, char, "e"))
        expect(menu).to_have_value(char)
        expect(heading).to_have_text(f"What follows {char}")
        expect(page.locator("#bigram-next .bar-label").first).to_have_text(likeliest)
        outline = page.locator("#bigram-tables .chosen-row").bounding_box()
        middle = outline["y"] + outline["height"] / 2 - board.bounding_box()["y"]
        assert middle == pytest.approx(place(board, char, "e")["y"], abs=2)


def test_the_bars_follow_the_controls_and_say_how_often(fresh: Page):
    page = fresh
    open_bigram(page)
    model = charlm.load("bigram")
    set_number(page, "bigram-temperature", "2")
    pick(page, "bigram-char", "Z")
    rows = bigram.next_chars(model, "Z", 2)
    seen = sum(row["count"] for row in rows)
    bars = page.locator("#bigram-next .bar-row")
    expect(page.locator("#bigram-next h2")).to_have_text("What follows Z")
    expect(page.locator("#bigram-next")).to_contain_text("learned, at temperature 2")
    expect(page.locator("#bigram-next")).to_contain_text(f"before another character {seen:,.0f} times")
    for i, row in enumerate(rows[:3]):
        expect(bars.nth(i).locator(".bar-value")).to_have_text(percent(row["prob"]))
        expect(bars.nth(i).locator(".count")).to_have_text(f"{row['count']:,.0f} ×")
    bars.first.focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator("#bigram-next .say")).to_contain_text(
        f"/ 2) / {sum(2.718281828459045 ** (r['logit'] / 2) for r in rows):.2f} = {percent(rows[1]['prob'])}"
    )
    set_number(page, "bigram-temperature", "0")
    expect(bars.nth(1).locator(".bar-value")).to_have_text("0 %")
    expect(page.locator("#bigram-next .say")).to_contain_text("temperature 0 gives all to the largest logit")


def test_losses_say_what_each_table_is(page: Page):
    open_bigram(page)
    value = bigram.losses_value(charlm.load("bigram"))
    losses = page.locator("#bigram-losses")
    for name, loss in value["validation"].items():
        expect(losses.locator(f"[data-loss={name}] .bar-value")).to_have_text(f"{loss:.3f}")
        among = f"as unsure as among {2.718281828459045**loss:.2f} characters"
        expect(losses.locator(f"[data-loss={name}]")).to_contain_text(among)
    expect(losses.locator("[data-loss=counted]")).to_contain_text("one added to each count")
    expect(losses).to_contain_text("lower is better")
    expect(losses).to_contain_text("2,845 of the 4,225 raw counts of the training split are 0")
    expect(losses).to_contain_text(f"{value['training']['counted']:.4f}, that of the learned table")
    expect(losses).not_to_contain_text("the best there is")


def test_twenty_characters_walk_the_table(fresh: Page):
    page = fresh
    open_bigram(page)
    set_number(page, "bigram-temperature", "0")
    expect(page.locator("#bigram-next")).to_contain_text("at temperature 0")
    page.locator("#bigram-write").click()
    steps = page.locator("#bigram-written .step")
    drawn = bigram.write(charlm.load("bigram"), "t", 0)["steps"]
    expect(steps).to_have_text([step["char"].replace(" ", "␣").replace("\n", "↵") for step in drawn])
    steps.first.focus()
    page.keyboard.press("ArrowRight")
    say = page.locator("#bigram-written .say")
    expect(say).to_contain_text(f"Step 2: the row of {drawn[1]['before']} gives")
    expect(say).to_contain_text("100 % at temperature 0")
    expect(page.locator("#bigram-tables .say")).to_contain_text(f"{drawn[1]['before']} is followed by")
    expect(page.get_by_text("It cannot look back.")).to_be_visible()


@pytest.mark.thorough
def test_steps_are_shown_one_after_another(url: str, chromium: playwright.Browser):
    context = chromium.new_context(viewport=DESK, reduced_motion="no-preference")
    page = context.new_page()
    page.goto(url)
    open_bigram(page)
    page.locator("#bigram-write").click()
    unwritten = page.locator("#bigram-written .unwritten")
    expect(unwritten.first).to_be_attached()
    expect(unwritten).to_have_count(0)
    expect(page.locator("#bigram-written .step")).to_have_count(bigram.WRITTEN_CHARS)
    context.close()


@pytest.mark.thorough
def test_ones_own_bigram_is_shown_once_it_is_trained(fresh: Page):
    page = fresh
    open_bigram(page)
    page.locator("#bigram-write").click()
    expect(page.locator("#bigram-written .step")).to_have_count(bigram.WRITTEN_CHARS)
    open_tab(page, "Train")
    page.locator("#train-corpus").get_by_text("Pasted text").click()
    page.locator("#train-text textarea").fill("<i>ab" * 2000)
    page.locator("#train-preset").get_by_text("bigram").click()
    expect(page.locator("#train-amount input")).to_have_value("1000")
    set_number(page, "train-amount", "30")
    page.locator("#train-name input, #train-name textarea").fill("<i>mine</i>")
    page.locator("#train-start").click()
    wait_until_trained(page)
    open_bigram(page)
    expect(page.locator("#bigram-model input")).to_have_value("<i>mine</i>")
    expect(page.locator("[data-loss=uniform] .bar-value")).to_have_text("1.609")
    expect(page.locator("#bigram-tables .labels.left span")).to_have_text(["<", ">", "a", "b", "i"])
    expect(page.locator("#bigram-written .step")).to_have_count(0)
    pick(page, "bigram-char", "a")
    expect(page.locator("#bigram-next .bar-label").first).to_have_text("b")
    assert page.locator("i").count() == 0
    pick(page, "bigram-model", "Bigram table")
    expect(page.locator("[data-loss=uniform] .bar-value")).to_have_text("4.174")
    expect(page.locator("#bigram-next h2")).to_have_text("What follows a")


def packed(V: int, record: dict[str, object], folder: Path) -> Path:
    model = build("bigram", CharTokenizer("".join(chr(0x4E00 + i) for i in range(V))), {}, seed=1)
    checkpoints.save(model, record, folder / "model")
    checkpoints.pack(folder / "model", folder / "brought.zip")
    return folder / "brought.zip"


def test_a_bigram_of_many_characters_shows_the_commonest(fresh: Page, tmp_path: Path):
    page = fresh
    V = MAX_VOCAB_SIZE
    counts = torch.eye(V, dtype=torch.long).mul(torch.arange(V))
    bring(page, packed(V, {"bigram_counts": counts.tolist(), "val_loss": 5.0}, tmp_path))
    open_bigram(page)
    expect(page.locator("#bigram-model input")).to_have_value("brought")
    expect(page.locator("#bigram-tables figcaption")).to_contain_text("The 100 commonest of 1,000 characters")
    commonest = chr(0x4E00 + V - 1)
    expect(page.locator("#bigram-next h2")).to_have_text(f"What follows {commonest}")
    expect(page.locator("#bigram-next")).to_contain_text(f"before another character {V - 1} times")
    expect(page.locator("#bigram-next .rest")).to_contain_text(f"{V - bigram.SHOWN_NEXT} more")
    page.locator("#bigram-char input").fill(chr(0x4E00))
    page.get_by_role("option", name=chr(0x4E00), exact=True).click()
    expect(page.locator("#bigram-next")).to_contain_text("comes before another character 0 times")
    expect(page.locator("#bigram-tables .chosen-row")).to_be_hidden()


def test_a_bigram_without_counts_leaves_no_other_on_the_screen(fresh: Page, tmp_path: Path):
    page = fresh
    open_bigram(page)
    bring(page, packed(5, {}, tmp_path))
    open_tab(page, "Bigram")
    expect(page.locator("#bigram-notes")).to_contain_text("without the counts of its text")
    for view in ("tables canvas", "next .bar-row", "losses .bar-row"):
        expect(page.locator(f"#bigram-{view}")).to_have_count(0)


def test_the_page_has_each_id_once_and_headings_step_by_one(page: Page):
    open_bigram(page)
    ids = page.evaluate("""() => [...document.querySelectorAll('[id^="bigram"]')].map(({ id }) => id)""")
    assert len(ids) == len(set(ids))
    headings = page.locator("#tab-bigram h1, #tab-bigram h2, #tab-bigram h3, #tab-bigram h4")
    levels = headings.evaluate_all("nodes => nodes.map((node) => node.tagName)")
    assert set(levels) == {"H2"}


def test_a_phone_has_room_for_it(url: str, chromium: playwright.Browser):
    context = chromium.new_context(viewport=PHONE, has_touch=True, reduced_motion="reduce")
    page = context.new_page()
    page.goto(url)
    open_bigram(page)
    page.locator("#bigram-write").tap()
    page.locator("#bigram-written .step").last.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    for target in ("tables .kinds label", "next .bar-row:not(.rest)", "written .step"):
        heights = page.locator(f"#bigram-{target}").evaluate_all("nodes => nodes.map((n) => n.offsetHeight)")
        assert heights and min(heights) >= 40, target
    context.close()
