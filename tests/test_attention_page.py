"""The Attention tab in a real browser: what leaves the screen, what a key, a finger and a pointer reach, and
what the page says of the model."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from browser import DESK, PHONE, open_tab, pick, watched_page

import charlm
from charlm.ui.attention import numbers as attention
from charlm.ui.parts import SPEECH

pytestmark = pytest.mark.slow

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
expect = playwright.expect
expect.set_options(timeout=30_000)
Page = playwright.Page

TEXT = "To be, or not\nto be"


@pytest.fixture
def page(url: str, chromium: playwright.Browser) -> Iterator[Page]:
    with watched_page(chromium, reduced_motion="reduce") as page:
        page.goto(url)
        open_tab(page, "Attention")
        expect(page.locator("#attention .heat-map")).to_have_count(3)
        yield page


def show(page: Page, text: str) -> None:
    page.locator("#attention-text textarea").fill(text)
    expect(page.locator("#attention-chars .ch")).to_have_count(len(text))
    expect(page.locator("#attention .heat-map")).to_have_count(3)


def focused(page: Page) -> str | None:
    return page.evaluate("document.activeElement.dataset.i ?? document.activeElement.dataset.head")


@pytest.mark.parametrize("text", ["", "éñ"])
def test_the_picture_leaves_the_screen_with_its_text(page: Page, text: str):
    page.locator("#attention-text textarea").fill(text)
    expect(page.locator("#attention-notes")).to_contain_text("nothing to look at yet")
    expect(page.locator("#attention .attention_view > *")).to_have_count(0)
    show(page, TEXT)
    expect(page.locator("#attention-notes .note")).to_have_count(0)


def test_the_picture_leaves_the_screen_with_its_model(page: Page):
    page.locator("#attention-model input").fill("no such model")
    page.locator("#attention-model input").press("Enter")
    expect(page.locator("#attention-notes .note")).to_have_count(1)
    expect(page.locator("#attention .attention_view > *")).to_have_count(0)
    pick(page, "attention-model", "One attention head")
    expect(page.locator("#attention .heat-map")).to_have_count(3)


def test_a_head_that_means_something_is_open_and_heads_are_told_by_what_they_do(page: Page):
    show(page, TEXT)
    model = charlm.load("gpt")
    weights = attention.explain(model, TEXT).weights
    layer, head = attention.telling_head(weights)
    mean = weights[layer, head].diagonal(-1).mean()
    assert mean == weights.diagonal(-1, 2, 3).mean(-1).max()
    does = f"looks one character back: mean weight {mean:.2f}"
    name = f"ayer {layer + 1}, head {head + 1}"
    expect(page.locator("#attention .does")).to_contain_text(f"L{name}, on this text, {does}")
    tile = page.get_by_role("button", name=f"l{name}")
    expect(tile).to_have_attribute("aria-pressed", "true")
    expect(tile).to_have_attribute("title", does)
    expect(tile.locator("small")).to_have_text(f"one back {mean:.2f}")
    expect(page.locator('#attention .tile[aria-pressed="true"]')).to_have_count(1)


def test_the_text_is_one_stop_walked_by_arrows(page: Page):
    show(page, TEXT)
    text = page.get_by_role("listbox", name="The text")
    expect(text.locator('.ch[tabindex="0"]')).to_have_count(1)
    say = page.locator("#attention .say")
    expect(say).to_have_attribute("role", "status")
    text.locator('.ch[tabindex="0"]').focus()
    assert focused(page) == str(len(TEXT) - 1)
    for key, place in (("Home", 0), ("ArrowRight", 1), ("ArrowDown", 15), ("ArrowUp", 1), ("End", 18)):
        page.keyboard.press(key)
        assert focused(page) == str(place)
        expect(say).to_have_text(re.compile(rf"^\S+ \({place}\) looks most at .*\d\.\d{{3}}"))
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    expect(text.get_by_role("option", selected=True)).to_have_attribute("data-i", "17")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="were missing")).to_be_focused()
    page.keyboard.press("Tab")
    assert focused(page) is not None and "-" in focused(page)


def test_the_heads_are_one_stop_walked_by_arrows(page: Page):
    page.locator('#attention .tile[tabindex="0"]').focus()
    assert page.locator('#attention .tile[tabindex="0"]').count() == 1
    page.keyboard.press("Home")
    assert focused(page) == "-1-0"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert focused(page) == "0-1"
    page.keyboard.press("Enter")
    expect(page.locator("#attention .does")).to_contain_text("Layer 1, head 2, on this text")


def test_a_click_pins_a_character_and_pointing_comes_back(page: Page):
    show(page, TEXT)
    chars, say = page.locator("#attention-chars .ch"), page.locator("#attention .say")
    chars.nth(5).click()
    chars.nth(11).hover()
    expect(say).to_contain_text("o (11) looks most at")
    assert page.locator("#attention .scroller path").count() > 0
    expect(chars.nth(5)).to_have_class(re.compile("pinned"))
    page.locator("#attention h2").first.hover()
    expect(say).to_contain_text(", (5) looks most at")
    board = page.locator("#attention .board").nth(2)
    cell = board.bounding_box()["width"] / len(TEXT)
    board.hover(position={"x": 3.5 * cell, "y": 9.5 * cell})
    expect(say).to_contain_text("␣ (9) looking at b (3): score q·k/√64 = ")
    expect(say).to_contain_text(re.compile(r"weight 0\.\d{4} = e\^−?[\d.]+ / e\^−?[\d.]+"))
    page.locator("#attention h2").first.hover()
    expect(say).to_contain_text(", (5) looks most at")


def overlaps(page: Page) -> list[str]:
    return page.evaluate("""() => [["top", "left", "right"], ["left", "top", "bottom"]].flatMap(
        ([side, start, end]) => [...document.querySelectorAll(`#attention .${side}`)].flatMap((labels) => {
            const shown = [...labels.children];
            if (shown.length < 3) return [`${side}: ${shown.length} labels`];
            const boxes = shown.map((label) => label.getBoundingClientRect());
            return boxes.slice(1).flatMap((box, i) =>
                box[start] < boxes[i][end] - 0.5 ? [`${side} ${i}: ${box[start]} < ${boxes[i][end]}`] : []);
        }))""")


@pytest.mark.parametrize("size", [DESK, PHONE])
def test_labels_do_not_run_together_and_what_is_cut_off_is_said(page: Page, size: dict[str, int]):
    text = SPEECH * 3
    page.set_viewport_size(size)
    page.locator("#attention-text textarea").fill(text)
    expect(page.locator("#attention-chars .ch")).to_have_count(256)
    expect(page.locator("#attention .cut")).to_have_text(
        f"These are the last 256 of {len(text)} characters: the model reads no more at a time."
    )
    expect(page.locator("#attention .patches")).to_contain_text("largest weight of a patch")
    expect(page.locator("#attention .heat-map")).to_have_count(3)
    expect(page.locator("#attention .left").last.locator("span").last).to_have_text("250")
    assert not overlaps(page)
    last = page.locator("#attention-chars .ch").last.bounding_box()
    view = page.locator("#attention .scroller").bounding_box()
    assert view["y"] <= last["y"] and last["y"] + last["height"] <= view["y"] + view["height"]


def test_every_picture_has_a_scale_and_a_sentence(page: Page):
    scales = page.locator("#attention .scale")
    expect(scales).to_have_count(4)
    for scale in (scales.first, scales.last):
        assert re.findall(r"[\d.]+", scale.text_content()) == ["0", "0.01", "0.05", "0.25", "1"]
    for number in (1, 2):
        entries = re.findall(r"−?[\d.]+", scales.nth(number).text_content())
        assert entries[0] == "−" + entries[4] and entries[2] == "0"
    expect(scales.nth(2)).to_contain_text("−∞, the future")
    opaque = "i => getComputedStyle(i).backgroundColor.match(/[\\d.]+\\)$/)?.[0]"
    assert scales.last.locator(".swatch").nth(3).evaluate(opaque) == "0.5)"
    for canvas in page.locator("#attention .board canvas").all():
        assert "looks" in canvas.get_attribute("aria-label")
    for board in page.locator("#attention .board").all():
        assert board.get_attribute("aria-label") and board.get_attribute("tabindex") == "0"


def test_what_is_said_is_true_of_the_model_on_the_screen(page: Page):
    terms = page.locator("#attention dt")
    expect(terms).to_have_text(["Rotary positions", "QK-norm and gain"])
    expect(page.locator("#attention figcaption").first).to_have_text("scores q·k/√64")
    expect(page.locator("#attention .does")).to_contain_text("Its gain is")
    page.get_by_text("The PyTorch behind it").locator("visible=true").click()
    code = page.locator(".cm-content").locator("visible=true")
    expect(code).to_contain_text("def frequencies")
    pick(page, "attention-model", "One attention head")
    expect(terms).to_have_text(["Rotary positions", "No QK-norm"])
    expect(page.locator("#attention .does")).not_to_contain_text("gain")


def test_headings_step_by_one(page: Page):
    expect(page.locator("#attention h2")).to_have_count(3)
    assert page.locator("#attention :is(h1, h3, h4)").count() == 0


def test_on_a_phone_everything_can_be_tapped_and_the_page_scrolls(url: str, chromium: playwright.Browser):
    context = chromium.new_context(viewport=DESK, has_touch=True, is_mobile=False)
    page = context.new_page()
    page.goto(url)
    open_tab(page, "Attention")
    page.set_viewport_size(PHONE)
    expect(page.locator("#attention .heat-map")).to_have_count(3)
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    for item in ("#attention .ch", "#attention .tile"):
        heights = page.locator(item).evaluate_all("all => all.map((e) => e.getBoundingClientRect().height)")
        assert min(heights) >= 40, item
    board = page.locator("#attention .board").last
    assert board.evaluate("e => getComputedStyle(e).touchAction") == "pan-y"
    board.scroll_into_view_if_needed()
    box = board.bounding_box()
    page.touchscreen.tap(box["x"] + 1.5 * box["width"] / 28, box["y"] + 9.5 * box["height"] / 28)
    say = page.locator("#attention .say")
    expect(say).to_contain_text("(9) looking at O (1)")
    expect(say).to_be_in_viewport(ratio=1)
    context.close()
