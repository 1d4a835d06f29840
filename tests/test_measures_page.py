"""What training does to each layer, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from browser import AXE, PHONE, set_number, violations, wait_until_trained, watched_page
from conftest import TEXT

pytestmark = [pytest.mark.slow, pytest.mark.thorough]

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
expect = playwright.expect
expect.set_options(timeout=30_000)
Page = playwright.Page


@pytest.fixture(scope="module")
def page(url: str, chromium: playwright.Browser) -> Iterator[Page]:
    """With a run of a model of three layers."""
    with watched_page(chromium, reduced_motion="reduce") as page:
        page.goto(f"{url}#train")
        page.locator("#train-forecast p").wait_for()
        page.locator("#train-corpus").get_by_text("Pasted text").click()
        page.locator("#train-text textarea").fill(TEXT)
        page.locator("#train-rung input").click()
        page.get_by_role("option", name="5. Residual connections").click()
        expect(page.locator("#train-forecast")).to_contain_text("Residual connections")
        set_number(page, "train-amount", "20")
        expect(page.locator("#train-start")).to_have_text("Train for 20 steps")
        page.locator("#train-start").click()
        wait_until_trained(page)
        yield page


def test_each_measure_has_a_chart_with_a_line_for_each_layer_and_what_is_healthy(page: Page):
    view = page.locator("#train-measures")
    figures = view.locator("figure")
    expect(figures).to_have_count(4)
    titles = ["Gradient norm", "Update-to-weight ratio", "Size of activations", "Dead neurons"]
    for figure, title, lines in zip(figures.all(), titles, (5, 5, 5, 3), strict=True):
        expect(figure.locator("figcaption")).to_have_text(title)
        expect(figure.locator("polyline")).to_have_count(lines)
        expect(figure.locator(".column")).to_have_count(20)
        expect(figure.locator(".verdict")).to_have_text(re.compile(r"\w+.*\."))
        expect(figure.locator(".hint")).to_contain_text("Healthy")
    expect(view.locator(".legend")).to_have_text(
        re.compile(r"embedding\s+layer 1\s+layer 2\s+layer 3\s+logits")
    )


def test_a_step_that_is_pointed_at_is_marked_in_all_charts_and_told(page: Page):
    view = page.locator("#train-measures")
    say = view.locator(".say")
    expect(say).to_contain_text("Gradient norm at step 20: embedding ")
    ratios, dead = (view.locator(f"[data-measure={key}] .column") for key in ("update_ratio", "dead"))
    ratios.nth(4).hover(force=True)
    expect(say).to_have_text(re.compile(r"Update-to-weight ratio at step 5: embedding \S+, layer 1 .*"))
    dead.nth(4).focus()
    page.keyboard.press("ArrowRight")
    expect(say).to_have_text(re.compile(r"Dead neurons at step 6: layer 1 \S+\s%, layer 2 .*"))
    expect(ratios.nth(5)).to_have_attribute("aria-selected", "true")
    assert view.locator('.chart [tabindex="0"]').count() == 4


def test_the_charts_are_within_everybodys_reach(page: Page):
    page.set_viewport_size(PHONE)
    chart = page.locator("#train-measures .chart").first
    page.wait_for_function("() => document.querySelector('#train-measures .chart').clientWidth < 390")
    assert chart.bounding_box()["width"] > 250
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    for scheme in ("light", "dark") if AXE.exists() else ():
        page.emulate_media(color_scheme=scheme)
        assert violations(page, "#train-measures") == []
