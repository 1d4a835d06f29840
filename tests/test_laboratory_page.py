"""The laboratory in a real browser: its switches, two runs in the list and on the chart, and a guess."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import needs_axe, set_number, violations, wait_until_trained, watched_page
from conftest import TEXT

pytestmark = pytest.mark.slow

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
expect = playwright.expect
expect.set_options(timeout=30_000)
Page = playwright.Page

CHART = "#train-runs svg.run-chart"


@pytest.fixture(scope="module")
def page(url: str, chromium: playwright.Browser) -> Iterator[Page]:
    with watched_page(chromium, reduced_motion="reduce", accept_downloads=True) as page:
        page.goto(f"{url}#train")
        page.locator("#train-forecast p").wait_for()
        yield page


def choose(page: Page, preset: str) -> None:
    page.locator("#train-preset").get_by_text(preset).click()


def train(page: Page, steps: int) -> None:
    set_number(page, "train-amount", str(steps))
    expect(page.locator("#train-start")).to_have_text(f"Train for {steps} steps")
    page.locator("#train-start").click()


def test_switches_say_what_they_make_of_a_model(page: Page):
    forecast, name = page.locator("#train-forecast"), page.locator("#train-name textarea, #train-name input")
    expect(page.locator("#train-runs table")).to_have_count(0)
    for group in ("The model: parts", "Its sizes", "How it learns"):
        page.locator(".switches").get_by_text(group, exact=True).click()
    page.locator("#train-residual input").uncheck()
    page.locator("#train-optimizer").get_by_label("SGD").check()
    expect(page.locator("#train-learning_rate input")).to_have_value("0.1")
    expect(page.locator("#train-learning_rate")).to_contain_text("Set to what suits SGD.")
    expect(page.locator("#train-muon_learning_rate")).to_be_hidden()
    expect(forecast).to_contain_text("GPT, four layers, without residual connections, with SGD:")
    expect(name).to_have_attribute("placeholder", "small, without residual connections, with SGD")
    expect(page.locator("#train-start")).to_have_text("Train for 60 seconds")
    set_number(page, "train-n_head", "3")
    expect(forecast).to_contain_text("must be an even multiple of n_head (3)")
    page.locator("#train-rung input").click()
    page.get_by_role("option", name="5. Residual connections").click()
    expect(forecast).to_contain_text("Residual connections: ")
    expect(page.locator("#train-block_size input[type=number]")).to_have_value("8")
    expect(page.locator("#train-norm").get_by_label("none")).to_be_checked()
    choose(page, "Bigram table")
    expect(forecast).to_contain_text("Bigram table: ")
    expect(page.locator("#train-residual, #train-n_layer")).to_have_count(0)
    page.locator("#train-optimizer").get_by_label("Muon").check()
    expect(forecast).to_contain_text("a bigram table has none: use adamw or sgd")


def test_two_runs_are_guessed_about_listed_and_drawn(page: Page):
    page.locator("#train-optimizer").get_by_label("AdamW").check()
    expect(page.locator("#train-learning_rate input")).to_have_value("0.1")
    page.locator("#train-corpus").get_by_text("Pasted text").click()
    page.locator("#train-text textarea").fill(TEXT)
    train(page, 20)
    wait_until_trained(page)
    runs = page.locator("#train-runs")
    expect(runs.locator("tr.chosen")).to_contain_text(re.compile(r"bigram.*\d\.\d{3}", re.S))
    expect(page.locator("#train-guess")).to_contain_text("which will end lower?")
    set_number(page, "train-learning_rate", "0.001")
    page.locator("#train-guess").get_by_label("this one").check()
    train(page, 30)
    expect(runs.locator("tr[data-run]")).to_have_count(2)
    wait_until_trained(page)
    told = "Wrong: you guessed that “bigram, at rate 0.001” ends lower."
    expect(runs.locator(".verdict")).to_contain_text(told)
    expect(runs.locator("tr[data-run]").first).to_contain_text("at rate 0.1, for 20 steps")
    expect(runs.locator("tr.chosen")).to_contain_text("at rate 0.001, for 30 steps")
    expect(page.locator(f"{CHART} .curve.val")).to_have_count(2)
    for text in ("uniform guess", "counted bigram"):
        expect(page.locator(CHART)).to_contain_text(text)


def test_the_chart_is_read_zoomed_and_saved(page: Page, tmp_path: Path):
    chart, runs = page.locator(CHART), page.locator("#train-runs")
    chart.locator(".point").first.focus()
    say = runs.locator(".say")
    expect(say).to_have_text(re.compile(r"1, “bigram”, after 0 steps, 0 characters, .* loss \d\.\d{3}\."))
    page.keyboard.press("ArrowRight")
    expect(say).to_contain_text("after 2 steps, 32,768 characters")
    runs.get_by_label("batches", exact=True).check()
    expect(chart.locator(".curve.batch")).to_have_count(2)
    runs.get_by_label("What the chart is drawn against").select_option("chars")
    expect(chart).to_contain_text("characters seen")
    runs.get_by_label("log scale").check()
    expect(chart).to_contain_text("100K")
    # However far one goes, the chart stays whole.
    points = chart.locator(".point").count()
    for _ in range(12):
        runs.get_by_role("button", name="Farther").click()
    runs.get_by_role("button", name="Closer").click()
    for _ in range(12):
        runs.get_by_role("button", name="Farther").click()
    expect(chart.locator(".point")).to_have_count(points)
    runs.get_by_label("log scale").uncheck()
    whole = runs.get_by_text("Whole chart")
    expect(whole).to_be_disabled()
    box = chart.bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 250, box["y"] + 250, steps=4)
    page.mouse.up()
    expect(whole).to_be_enabled()
    assert 0 < chart.locator(".point").count() < points
    runs.get_by_label("bigram on the chart", exact=True).uncheck()
    expect(chart.locator(".curve.val")).to_have_count(1)
    expect(whole).to_be_enabled()
    with page.expect_download() as download:
        runs.get_by_label("Save the chart as PNG").click()
    picture = tmp_path / "runs.png"
    download.value.save_as(picture)
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 5_000
    whole.click()
    expect(whole).to_be_disabled()
    runs.get_by_label("bigram on the chart", exact=True).check()


def test_a_run_is_chosen_repeated_taken_home_and_removed(page: Page):
    runs, history = page.locator("#train-runs"), page.locator("#train-history .say")
    expect(history).to_contain_text("After 30 steps")
    runs.get_by_role("button", name="bigram", exact=True).click()
    expect(history).to_contain_text("After 20 steps")
    for kind in ("CSV", "JSON"):
        with page.expect_download() as download:
            runs.get_by_label(f"{kind}: bigram", exact=True).click()
        assert download.value.suggested_filename == f"bigram.{kind.lower()}"
        text = Path(download.value.path()).read_text()
        if kind == "CSV":
            assert list(csv.DictReader(io.StringIO(text)))[-1]["step"] == "20"
        else:
            assert json.loads(text)["settings"]["learning_rate"] == 0.1
    runs.get_by_label("Repeat with one change: bigram", exact=True).click()
    expect(page.locator("#train-learning_rate input")).to_have_value("0.1")
    expect(page.locator("#train-amount input")).to_have_value("20")
    expect(page.locator("#train-notes")).to_contain_text("All is set as for “bigram”: change one thing")
    page.locator("#train-guess").get_by_label("this one").check()
    runs.get_by_label("Remove: bigram", exact=True).click()
    expect(runs.locator("tr[data-run]")).to_have_count(1)
    # There are other rivals: nothing is guessed, on the screen or behind it.
    expect(page.locator("#train-guess :checked")).to_have_count(0)
    expect(page.locator("#train-guessed textarea")).to_have_value("")
    expect(history).to_contain_text("After 30 steps")
    expect(page.locator("#train-guess")).not_to_contain_text("bigram 2")


@needs_axe
def test_runs_survive_a_reload_and_nothing_is_out_of_reach(page: Page):
    page.reload()
    rows = page.locator("#train-runs tr[data-run]")
    expect(rows).to_have_count(1)
    expect(rows.locator(".badge")).to_have_text("2")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert violations(page, "#tab-train") == []


def test_the_list_stays_while_a_run_learns(page: Page):
    """So that no press on it is lost."""
    choose(page, "Bigram table")
    page.locator("#train-corpus").get_by_text("Pasted text").click()
    page.locator("#train-text textarea").fill(TEXT)
    train(page, 900)
    row = page.locator("#train-runs tr.chosen", has_text="learning")
    steps = row.locator("[data-label=steps]")
    row.evaluate("row => { row.dataset.seen = true; }")
    for _ in range(2):
        before = steps.inner_text()
        expect(steps).not_to_have_text(before)
    expect(row).to_have_attribute("data-seen", "true")
    page.locator("#train-stop").click()
    expect(row).to_have_count(0)
