"""The Attention tab in a real browser: what leaves the screen, what a key, a finger and a pointer reach, and
what the page says of the model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from browser import DESK, PHONE, open_tab, pick, watched_page
from torch import Tensor

import charlm
from charlm import operate
from charlm.surgery.heads import load_heads
from charlm.ui.attention import known
from charlm.ui.attention import numbers as attention
from charlm.ui.parts import SPEECH

pytestmark = pytest.mark.slow

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
expect = playwright.expect
expect.set_options(timeout=30_000)
Page = playwright.Page

GPT = "GPT, six layers"
FIRST_TEXT = "ROMEO:\nBut, soft! what light"
TEXT = "To be, or not\nto be"
PLACE = 11


@contextmanager
def opened(url: str, chromium: playwright.Browser) -> Iterator[Page]:
    with watched_page(chromium, reduced_motion="reduce") as page:
        page.goto(url)
        open_tab(page, "Attention")
        yield page


@pytest.fixture
def page(page: Page) -> Page:
    """The shared page, for tests that change no model: the GPT on its first text."""
    page.set_viewport_size(DESK)
    if page.locator("#attention-model input").input_value() != GPT:
        pick(page, "attention-model", GPT)
    show(page, FIRST_TEXT)
    return page


def show(page: Page, text: str) -> None:
    page.locator("#attention-text textarea").fill(text)
    expect(page.locator("#attention-chars .ch")).to_have_count(len(text))
    expect(page.locator("#attention .heat-map")).to_have_count(3)


def hold(route: playwright.Route, held: list[playwright.Route]) -> None:
    """Keeps the page's request to measure heads in `held`; others go on."""
    if '"measure"' in (route.request.post_data or ""):
        held.append(route)
    else:
        route.continue_()


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
    expect(tile).to_have_attribute("title", re.compile(re.escape(f"on this text: {does}.")))
    expect(tile.locator(".here")).to_have_text(f"here: one back {mean:.2f}")
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
    for stop in (
        page.get_by_role("radio", name="Learned", exact=True),
        page.get_by_role("slider", name="Strength"),
        page.get_by_role("button", name="were missing"),
        page.get_by_role("combobox", name="Order"),
        page.get_by_role("combobox", name="Tint"),
        page.locator("#attention .tile.chosen"),
    ):
        page.keyboard.press("Tab")
        expect(stop).to_be_focused()


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
    scales = page.locator("#attention :is(.look, .panes) .scale")
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
    terms = page.locator("#attention .principles dt")
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
    expect(page.locator("#attention h2")).to_have_count(4)
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


@pytest.fixture(scope="module")
def operating(url: str, chromium: playwright.Browser) -> Iterator[Page]:
    """Layer 5, head 4, on a text of which a character is pinned."""
    with watched_page(chromium, reduced_motion="reduce") as page:
        page.goto(f"{url}#attention")
        show(page, TEXT)
        page.locator('[data-head="4-3"]').click()
        expect(page.locator("#attention h2").first).to_contain_text("Layer 5, head 4")
        page.locator("#attention-chars .ch").nth(PLACE).click()
        yield page


def edits(page: Page) -> playwright.Locator:
    return page.locator("#attention-edits textarea")


def picture(tile: playwright.Locator) -> str:
    return tile.locator("canvas").evaluate("canvas => canvas.toDataURL()")


def looks(weights: Tensor) -> str:
    """How the sentence on the pinned character begins."""
    return (
        f"o ({PLACE}) looks most at {TEXT[int(weights[PLACE].argmax())]} ({int(weights[PLACE].argmax())}): "
    )


def test_a_head_becomes_a_plain_average_and_what_comes_later_changes(operating: Page):
    page, say = operating, operating.locator("#attention .say")
    does, later = page.locator("#attention .does"), page.locator('[data-head="5-0"]')
    learned = attention.explain(charlm.load("gpt"), TEXT)
    changed = attention.explain(operate(charlm.load("gpt"), "5.4:average"), TEXT)
    average = page.get_by_role("radio", name="Plain average")
    average.check()
    expect(does).to_contain_text("Layer 5, head 4, made a plain average, on this text, spreads evenly.")
    expect(average).to_be_focused()
    expect(say).to_have_text(f"o ({PLACE}) looks at all 12 alike: 0.083. The row sums to 1.000.")
    tile = page.get_by_role("button", name="layer 5, head 4")
    expect(tile).to_have_attribute("aria-pressed", "true")
    expect(tile.locator("em")).to_have_text("plain average")
    expect(page.locator("#attention .tile.changed")).to_have_count(1)
    before, after = (attention.tiles(maps)["tiles"][21] for maps in (learned, changed))
    assert before != after
    pictures = [picture(later)]
    for version, is_changed in (("learned", False), ("changed", True), ("learned", False)):
        page.get_by_role("radio", name=f"as {version}").check()
        expect(tile.locator("em")).to_be_visible(visible=is_changed)
        pictures.append(picture(later))
        if not is_changed:
            expect(say).to_have_text(re.compile("^" + re.escape(looks(learned.weights[4, 3]))))
            expect(does).not_to_contain_text("plain average")
        expect(page.locator("#attention-chars .pinned")).to_have_attribute("data-i", str(PLACE))
    expect(average).to_be_checked()
    assert pictures[0] == pictures[2] != pictures[1] == pictures[3]


def test_a_head_has_a_strength_and_is_taken_back(operating: Page):
    page, strength = operating, operating.get_by_role("slider", name="Strength")
    expect(strength).to_be_disabled()
    page.get_by_role("radio", name="Silent").check()
    expect(page.locator("#attention .does")).to_contain_text("silenced")
    expect(edits(page)).to_have_value("5.4:silent")
    expect(strength).to_have_value("0")
    page.get_by_role("radio", name="Learned", exact=True).check()
    expect(edits(page)).to_have_value("")
    expect(page.get_by_role("radiogroup", name="Which model is shown")).to_be_hidden()
    expect(strength).to_have_value("1")
    strength.focus()
    page.keyboard.press("ArrowRight")
    expect(edits(page)).to_have_value("5.4:x1.1")
    expect(page.locator("#attention .does")).to_contain_text("multiplied by 1.1")
    expect(page.locator("#attention .tile.changed em")).to_have_text("×1.1")
    page.get_by_role("radio", name="Learned", exact=True).check()
    expect(page.locator("#attention .tile.changed")).to_have_count(0)


def test_one_weight_is_set_by_hand_and_taken_back(operating: Page):
    page, say = operating, operating.locator("#attention .say")
    cell = page.locator("#attention .cell")
    learned = attention.explain(charlm.load("gpt"), TEXT).weights[4, 3]
    expect(say).to_have_text(re.compile("^" + re.escape(looks(learned))))
    column = int(learned[PLACE, : PLACE + 1].argmin())
    cell.get_by_role("combobox", name="The one looked at").select_option(str(column))
    expect(say).to_contain_text(f"weight {learned[PLACE, column]:.4f}")
    cell.get_by_role("spinbutton", name="Weight").fill("0.9")
    told = attention.with_weight(charlm.load("gpt"), TEXT, 4, 3, PLACE, column, 0.9)
    values = [f"{100 * before:.1f} % → {100 * after:.1f} %" for _, before, after in told["guesses"]]
    shown = cell.locator(".bar-value")
    expect(shown).to_have_count(len(values))
    assert shown.first.text_content().replace("\u00a0", " ") == values[0]
    expect(cell.get_by_role("status")).to_contain_text(
        f"With 0.90 in place of {learned[PLACE, column]:.2f} on"
    )
    expect(say).to_have_text(re.compile(r"as set by hand, looks most at .+: 0\.900, .* sums to 1\.000"))
    open_tab(page, "Tokens")
    open_tab(page, "Attention")
    page.wait_for_timeout(500)
    expect(say).to_contain_text("by hand")
    assert edits(page).input_value() == ""
    cell.get_by_role("button", name="As it was").click()
    expect(shown).to_have_count(0)
    expect(say).to_contain_text(f"weight {learned[PLACE, column]:.4f}")
    page.locator("#attention-chars .ch").first.click()
    expect(cell.get_by_role("status")).to_contain_text("sees only itself")
    expect(cell.get_by_role("spinbutton", name="Weight")).to_be_disabled()


def test_what_heads_are_worth_and_mostly_do(operating: Page):
    page = operating
    heads = load_heads("gpt")
    ranking = heads.ranking
    usual = page.locator("#attention .open-head .usual")
    expect(usual).to_contain_text(heads.excerpt.description)
    rise = ranking.silent[4][3]
    expect(usual).to_contain_text(f"Without it the loss rises by {rise:.3f} to {ranking.loss + rise:.2f}")
    expect(page.locator('[data-head="3-1"] .usual')).to_have_text(
        f"mostly: {known.usual(heads.atlas, 3, 1)[1]}"
    )
    for order, by in (("silent", ranking.silent), ("previous", heads.atlas.scores["previous"])):
        page.get_by_role("combobox", name="Order").select_option(order)
        places = [(layer, head) for layer, row in enumerate(by) for head in range(len(row))]
        best = max(places, key=lambda place: by[place[0]][place[1]])
        expect(page.locator("#attention .heads .tile").first).to_have_attribute(
            "data-head", "{}-{}".format(*best)
        )
        expect(page.locator("#attention .all-heads [role=status]")).to_contain_text(
            f"layer {best[0] + 1}, head {best[1] + 1}, with {by[best[0]][best[1]]:.3f}"
        )
    page.get_by_role("combobox", name="Tint").select_option("previous")
    tinted = page.locator("#attention .tile.tinted")
    expect(tinted).to_have_count(24)
    assert tinted.first.get_attribute("style") != tinted.last.get_attribute("style")
    page.get_by_text("What the scores mean").click()
    expect(page.locator("#attention details dt")).to_have_text([term for term, _ in known.definitions()])


def test_the_heads_of_ones_own_model_are_measured_when_asked(operating: Page):
    page = operating
    pick(page, "attention-model", "One attention head")
    expect(page.locator("#attention .tile")).to_have_count(2)
    expect(page.locator("#attention .measuring")).to_be_hidden()
    page.locator('[data-head="0-0"]').click()
    page.get_by_role("radio", name="Silent").check()
    page.get_by_role("button", name="Keep this model").press("Enter")
    pick(page, "attention-model", "One attention head, without head 1·1")
    expect(page.locator("#attention .tile .worths")).to_have_count(0)
    # The picture is drawn anew before the server knows of the click.
    held: list[playwright.Route] = []
    page.route("**/component_server/**", lambda route: hold(route, held))
    page.get_by_role("button", name="Measure each head").click()
    show(page, "Another text")
    assert len(held) == 1
    held[0].continue_()
    expect(page.locator("#attention .tile .worths")).to_have_count(1)
    expect(page.locator("#attention .open-head .usual")).to_contain_text("Without it the loss hardly changes")
    expect(page.locator("#attention .measuring")).to_be_hidden()
