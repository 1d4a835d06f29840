"""The board on which a model is changed, and what the page shows of that, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import torch
from browser import DESK, PHONE, needs_axe, open_tab, pick, violations, watched_page

import charlm
from charlm.models import LanguageModel
from charlm.surgery.edits import all_average, text_of
from charlm.surgery.heads import load_heads

pytestmark = pytest.mark.slow

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
expect = playwright.expect
expect.set_options(timeout=30_000)
Page, Locator = playwright.Page, playwright.Locator

TEXT = "ROMEO:\nBut, soft!"
SEED, LENGTH = 1337, 200
INVITATION = "Nothing is changed. Make all heads plain averages: does it still write?"


@pytest.fixture(scope="module")
def averaged(gpt: LanguageModel) -> LanguageModel:
    return charlm.operate(gpt, text_of(all_average(gpt)))


@pytest.fixture(scope="module")
def shared(url: str, chromium: playwright.Browser) -> Iterator[Page]:
    clipboard = ["clipboard-read", "clipboard-write"]
    with watched_page(chromium, reduced_motion="reduce", permissions=clipboard) as page:
        page.goto(f"{url}#attention")
        page.locator("#attention-text textarea").fill(TEXT)
        panel(page).locator("select").first.wait_for()
        yield page


@pytest.fixture
def page(shared: Page) -> Page:
    """The Attention tab with nothing changed of the GPT."""
    open_tab(shared, "Attention")
    shared.evaluate("scrollTo(0, 0)")
    # Of the button as it is now: it may have been pressed already, and be about to be disabled.
    button(shared, "As it was").dispatch_event("click")
    expect(panel(shared).locator(".sentence")).to_have_text(INVITATION)
    return shared


def panel(page: Page, tab: str = "attention") -> Locator:
    return page.locator(f"#{tab}-surgery")


def button(page: Page, name: str) -> Locator:
    return panel(page).get_by_role("button", name=name)


def sentence(page: Page) -> Locator:
    return panel(page).locator(".sentence")


def set_edits(page: Page, edits: str) -> None:
    """As another view does it, or somebody who knows where the edits are."""
    page.evaluate(
        """(edits) => {
            const box = document.querySelector("#attention-edits textarea");
            Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, "value").set.call(box, edits);
            box.dispatchEvent(new Event("input", { bubbles: true }));
        }""",
        edits,
    )


def edits_in(page: Page) -> Locator:
    return page.locator("#attention-edits textarea")


def text_of_pane(pane: Locator) -> str:
    return "".join(pane.locator(".ch").all_text_contents())


def written(model: LanguageModel, prompt: str, length: int) -> str:
    steps = charlm.stream(model, prompt, max_new_chars=length, temperature=0.8, seed=SEED)
    return "".join(step.char for step in steps)


def test_all_heads_become_plain_averages_and_come_back_by_keyboard(
    page: Page, gpt: LanguageModel, averaged: LanguageModel
):
    button(page, "All heads to plain averages").focus()
    page.keyboard.press("Enter")
    expect(sentence(page)).to_have_text("With all 24 heads averaged.")
    expect(panel(page).locator("select.changed")).to_have_count(24)
    excerpt = load_heads("gpt").excerpt
    before, after = excerpt.loss(gpt), excerpt.loss(averaged)
    expect(panel(page).locator(".cost")).to_have_text(
        f"Loss {before:.3f} → {after:.3f} nats per character, Δ +{after - before:.3f}."
    )
    bars = panel(page).locator(".bar-row")
    expect(bars.locator(".bar-value")).to_have_text([f"{before:.3f}", f"{after:.3f}"])
    widths = [float(re.search(r"[\d.]+", bar)[0]) for bar in styles(bars.locator(".bar"))]
    mark = float(re.search(r"[\d.]+", styles(bars.locator(".mark"))[0])[0])
    assert widths[1] / widths[0] == pytest.approx(after / before, abs=0.001)
    assert mark / widths[0] == pytest.approx(excerpt.bigram / before, abs=0.001)
    page.keyboard.press("Tab")
    expect(button(page, "As it was")).to_be_focused()
    page.keyboard.press("Enter")
    expect(sentence(page)).to_have_text(INVITATION)
    expect(panel(page).locator(".changed")).to_have_count(0)
    expect(panel(page).locator(".effects")).to_be_hidden()
    expect(panel(page).locator(".pair")).to_be_hidden()


def styles(nodes: Locator) -> list[str]:
    return nodes.evaluate_all("all => all.map((e) => e.getAttribute('style'))")


def test_the_switches_are_one_stop_of_the_keyboard_and_turned_by_it(page: Page):
    table = panel(page).locator("table")
    assert table.locator('[tabindex="0"]').count() == 1
    table.locator('[tabindex="0"]').focus()
    for key in ("Home", "ArrowRight", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    expect(page.get_by_role("combobox", name="Head 2·2")).to_be_focused()
    assert edits_in(page).input_value() == ""
    page.keyboard.press("s")
    expect(sentence(page)).to_have_text("Without head 2·2.")
    assert edits_in(page).input_value() == "2.2:silent"
    page.keyboard.press("End")
    page.keyboard.press("Space")
    mlp = page.get_by_role("switch", name="MLP of layer 6")
    expect(mlp).to_be_focused()
    expect(mlp).to_have_attribute("aria-checked", "false")
    expect(sentence(page)).to_have_text("Without head 2·2 and without MLP 6.")
    expect(panel(page).locator("table .changed")).to_have_count(2)


def test_the_board_follows_edits_from_elsewhere_and_tells_of_bad_ones(page: Page):
    set_edits(page, "5.4:x1.25 6.mlp.17:off 6.mlp.18:off 4.attention:off")
    expect(page.get_by_role("combobox", name="Head 5·4")).to_have_value("x1.25")
    expect(page.get_by_role("switch", name="MLP of layer 6")).to_have_text("on −2")
    expect(page.get_by_role("switch", name="Attention of layer 4")).to_have_text("off")
    expect(sentence(page)).to_contain_text("With head 5·4 ×1.25, without attention in layer 4")
    for edits, said in (
        ("9.9:silent", "There is no layer 9: this model has layers 1 to 6."),
        ("<b>nonsense</b>", "'<b>nonsense</b>' is no edit: write, for example,"),
    ):
        set_edits(page, edits)
        expect(sentence(page)).to_contain_text(said)
        expect(panel(page).locator(".effects")).to_be_hidden()
    button(page, "As it was").click()
    expect(edits_in(page)).to_have_value("")


def test_what_is_changed_stays_in_sight_above_the_board(page: Page):
    bar = panel(page).locator(".operation-bar")
    expect(bar).not_to_be_in_viewport()
    set_edits(page, "5.4:silent")
    expect(sentence(page)).to_have_text("Without head 5·4.")
    expect(bar).to_be_in_viewport(ratio=1)
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    expect(bar).not_to_have_class(re.compile("floating"))
    page.evaluate("scrollTo(0, 100)")
    button(page, "See what it does ↓").click()
    expect(panel(page).locator("[data-part]:focus")).to_have_count(1)
    expect(panel(page).locator("h2")).to_be_in_viewport()
    expect(button(page, "See what it does ↓")).to_be_hidden()


def test_where_it_hurts_and_what_both_models_write(page: Page, gpt: LanguageModel, averaged: LanguageModel):
    button(page, "All heads to plain averages").click()
    ids = gpt.tokenizer.encode(TEXT)
    with torch.no_grad():
        before, after = (
            [-m(torch.tensor([ids]))[0][0].log_softmax(-1)[i - 1, ids[i]].item() for i in range(1, len(ids))]
            for m in (gpt, averaged)
        )
    hurt = panel(page).locator(".hurt")
    n = len(before)
    expect(hurt.locator(".told")).to_have_text(
        f"On average, a character of your text costs {sum(before) / n:.2f} nats before "
        f"and {sum(after) / n:.2f} after."
    )
    i = TEXT.index("!")
    hurt.locator(".ch").nth(i).focus()
    expect(hurt.locator(".say")).to_contain_text(
        f"! ({i}): the model gave it {percent(before[i - 1])}, and now {percent(after[i - 1])}"
    )
    page.keyboard.press("Home")
    expect(hurt.locator(".say")).to_have_text("R (0) comes first: nobody guesses it.")
    texts = panel(page).locator(".pair")
    texts.scroll_into_view_if_needed()
    expect(texts.locator(".pane strong")).to_have_text(
        ["GPT, six layers", "GPT, six layers, with 24 heads averaged"]
    )
    for pane, model in zip((0, 1), (gpt, averaged), strict=True):
        expect(texts.locator(".pane").nth(pane).locator(".ch:not(.ahead)")).to_have_count(LENGTH)
        assert text_of_pane(texts.locator(".pane").nth(pane)) == written(model, TEXT, LENGTH)
    again = texts.get_by_role("button", name="Again")
    texts.locator(".page").first.press("Home")
    expect(texts.locator(".ch:not(.ahead)")).to_have_count(2)
    texts.get_by_role("button", name="Play").click()
    expect(again).to_be_visible()
    expect(texts.locator(".ch:not(.ahead)")).to_have_count(2 * LENGTH)


def percent(loss: float) -> str:
    p = 100 * torch.tensor(-loss).exp().item()
    return f"{p:.1f}\u00a0%"


def test_nothing_is_written_unseen_and_a_change_ends_what_is_written(page: Page):
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "generate/write" in request.url else None)
    set_edits(page, "1.1:silent")
    expect(panel(page).locator(".cost")).to_contain_text("Loss")
    panel(page).locator(".pair").evaluate("(e) => e.scrollIntoView()")
    open_tab(page, "Tokens")
    page.wait_for_timeout(700)
    assert asked == []
    page.route("**/generate/write", lambda route: None)  # It never answers.
    open_tab(page, "Attention")
    with page.expect_request("**/generate/write"):
        panel(page).locator(".pair").evaluate("(e) => e.scrollIntoView()")
    page.wait_for_timeout(100)
    ended: list[str] = []
    page.on("requestfailed", lambda request: ended.append(request.failure))
    set_edits(page, "1.2:silent")
    expect(sentence(page)).to_have_text("Without head 1·2.")
    assert len(ended) == 2 and set(ended) == {"net::ERR_ABORTED"}
    page.unroute("**/generate/write")


def test_what_is_kept_is_in_every_list_and_may_be_changed_again(page: Page):
    set_edits(page, "1.2:silent")
    expect(sentence(page)).to_have_text("Without head 1·2.")
    button(page, "Keep this model").click()
    title = "GPT, six layers, without head 1·2"
    expect(page.locator("#attention-surgery-notes")).to_have_text(
        f"Kept: it is in the list of models of every tab, as “{title}”."
    )
    open_tab(page, "Generate")
    page.locator("#model input").click()
    expect(page.get_by_role("option", name=title, exact=True)).to_be_visible()
    page.keyboard.press("Escape")
    open_tab(page, "Attention")
    pick(page, "attention-model", title)
    head = page.get_by_role("combobox", name="Head 1·2")
    expect(head).to_have_value("silent")
    expect(edits_in(page)).to_have_value("")
    head.select_option("learned")
    expect(edits_in(page)).to_have_value("1.2:learned")
    expect(panel(page).locator(".cost")).to_contain_text("Δ −0.0")
    button(page, "As it was").click()
    expect(head).to_have_value("silent")
    pick(page, "attention-model", "GPT, six layers")
    expect(head).to_have_value("learned")


def test_it_writes_beside_the_original_and_a_link_brings_it_back(
    page: Page, url: str, gpt: LanguageModel, averaged: LanguageModel
):
    button(page, "All heads to plain averages").click()
    write = button(page, "Write with it →")
    write.focus()
    page.keyboard.press("Enter")
    panes = page.locator("#written .pane")
    titles = ["GPT, six layers, with 24 heads averaged", "GPT, six layers"]
    expect(panes.locator("strong")).to_have_text(titles)
    expect(page.locator("#written .status")).to_contain_text(f"500 characters, seed {SEED}")
    page.locator("#pace").select_option(label="as fast as it goes")
    for i, model in enumerate((averaged, gpt)):
        expect(panes.nth(i).locator(".ch")).to_have_count(500)
        assert text_of_pane(panes.nth(i)) == written(model, TEXT, 500)
    page.get_by_role("button", name="Link").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    link = page.evaluate("navigator.clipboard.readText()")
    assert "1.1%3Aaverage" in link
    opened = page.context.new_page()
    opened.goto(link)
    expect(opened.locator("#written .pane strong")).to_have_text(titles)
    opened.locator("#pace").select_option(label="as fast as it goes")
    expect(opened.locator("#written .pane").first.locator(".ch")).to_have_count(500)
    assert text_of_pane(opened.locator("#written .pane").first) == written(averaged, TEXT, 500)
    opened.close()


@needs_axe
def test_a_changed_model_can_be_read_and_used_by_everybody(page: Page):
    set_edits(page, "5.4:silent 6.mlp:off")
    expect(panel(page).locator(".cost")).to_contain_text("Loss")
    panel(page).locator(".pair").scroll_into_view_if_needed()
    expect(panel(page).locator(".pair .pane")).to_have_count(2)
    assert not violations(page, "#attention-surgery")
    page.set_viewport_size(PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    controls = panel(page).locator("button:visible, select:visible, .hurt .ch")
    assert min(controls.evaluate_all("all => all.map((e) => e.getBoundingClientRect().height)")) >= 40
    page.set_viewport_size(DESK)


def test_each_model_has_the_switches_that_it_has_parts(page: Page):
    open_tab(page, "Inside the model")
    board = panel(page, "inside").locator("table")
    expect(board.locator("select")).to_have_count(24)
    pick(page, "inside-model", "Bigram table")
    expect(panel(page, "inside").locator(".surgery_view > *")).to_have_count(0)
    pick(page, "inside-model", "One attention head")
    expect(board.get_by_role("combobox", name="Head 1·1")).to_be_visible()
    expect(board.get_by_role("columnheader")).to_have_text(["Atten\u00adtion", "Head 1"])
    board.get_by_role("combobox").select_option("silent")
    expect(panel(page, "inside").locator(".sentence")).to_have_text("Without head 1·1.")
    page.locator("#inside-model input").fill("no such model")
    page.locator("#inside-model input").press("Enter")
    expect(page.locator("#inside-notes .note")).to_have_count(1)
    expect(panel(page, "inside").locator(".surgery_view > *")).to_have_count(0)
