"""One step under the glass, in a real browser: what is shown of a step, and the way from one to the next."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

import pytest
from browser import DESK, PHONE, needs_axe, violations, watched_page

from charlm.training import one_step
from charlm.ui.train import glass

pytestmark = pytest.mark.slow

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
expect = playwright.expect
expect.set_options(timeout=30_000)
Page = playwright.Page

STEPS = list(islice(one_step.steps(one_step.begin(glass.TEXT)), 30))
VOCAB = one_step.begin(glass.TEXT).tokenizer.vocab
E, A, K = (VOCAB.index(char) for char in "eak")


@pytest.fixture(scope="module")
def opened(url: str, chromium: playwright.Browser) -> Iterator[Page]:
    with watched_page(chromium, reduced_motion="reduce") as page:
        page.goto(f"{url}#train")
        page.locator("#train-glass").scroll_into_view_if_needed()
        expect(page.locator("#train-glass .stage")).to_have_count(8)
        yield page


@pytest.fixture
def page(opened: Page) -> Page:
    """The first step, whole, on the tab's own text."""
    opened.set_viewport_size(DESK)
    opened.locator("#train-glass-text textarea").fill(glass.TEXT)
    expect(opened.locator("#train-glass .place").first).to_have_text(re.compile("^1 h → e"))
    opened.get_by_role("button", name="Start again").click()
    expect(opened.locator("#train-glass .glass_view")).to_have_attribute("aria-busy", "false")
    expect(say(opened)).to_contain_text("Step 1: ")
    return opened


def say(page: Page) -> playwright.Locator:
    return page.locator("#train-glass .say")


def button(page: Page, name: str) -> playwright.Locator:
    return page.locator("#train-glass").get_by_role("button", name=name)


def board(page: Page, stage: str) -> playwright.Locator:
    return page.locator(f'#train-glass [data-stage="{stage}"] .board')


def formula(page: Page, stage: str) -> str:
    return page.locator(f'#train-glass [data-stage="{stage}"] .formula').text_content()


def cell_at(page: Page, stage: str, row: int, column: int) -> dict[str, float]:
    size = board(page, stage).bounding_box()["width"] / len(VOCAB)
    return {"x": (column + 0.5) * size, "y": (row + 0.5) * size}


def shown(x: float) -> str:
    """A number with three digits, as the page writes it."""
    text = f"{x:#.3g}" if abs(x) >= 0.001 else re.sub(r"e-0*", "e-", f"{x:.2e}")
    return text.replace("-", "−")


def fell(step: one_step.Step, following: one_step.Step) -> str:
    return f"Step {step.t}: the loss fell from {step.loss:.3f} to {following.loss:.3f} nats"


def test_a_cell_is_marked_in_every_stage_and_told_with_its_numbers(page: Page):
    step = STEPS[0]
    expect(say(page)).to_contain_text(fell(step, STEPS[1]))
    board(page, "gradient").hover(position=cell_at(page, "gradient", E, A))
    expect(say(page)).to_contain_text("a after e: its logit rose by 0.100, and its probability went from ")
    crosses = page.locator("#train-glass .cross").evaluate_all(
        "all => all.map((line) => line.style.top + line.style.left)"
    )
    assert len(crosses) == 16 and len(set(crosses)) == 2
    p = shown(step.table[E].softmax(0)[A])
    values = {
        "table": f"table[e, a] = {shown(step.table[E, A])}",
        "probs": f" = {p}",
        "losses": f"at 2 of 16 places: 2 · {shown(-step.table[E].log_softmax(0)[A])} / 16 = ",
        "gradient": f"e is read at places 2, 7, 11 and 15: Σ (p − [target = a]) / N = "
        f"(2 · ({p} − 1) + 2 · {p}) / 16 = {shown(step.gradient[E, A])}",
        "m": f"0.9 · 0 + 0.1 · ({shown(step.gradient[E, A])}) = {shown(step.m[E, A])}",
        "v": f"0.99 · 0 + 0.01 · ({shown(step.gradient[E, A])})² = {shown(step.v[E, A])}",
        "change": f"−0.1 · ({shown(step.m_hat[E, A])}) / (√{shown(step.v_hat[E, A])} + 1e−8)",
        "new_table": f" = {shown(step.new_table[E, A])}",
    }
    for stage, told in values.items():
        assert told in formula(page, stage), stage
    expect(page.locator("#train-glass .place.lit")).to_have_count(4)
    expect(page.locator("#train-glass .place.target small")).to_have_text(["2", "15"])
    board(page, "table").click(position=cell_at(page, "table", K, A))
    expect(say(page)).to_contain_text("a after k: its row is not read in this batch, and stays as it is.")
    assert formula(page, "gradient") == "k is no input of this batch: 0"
    board(page, "m").hover(position=cell_at(page, "m", E, A))
    expect(say(page)).to_contain_text("a after e")
    page.locator("#train-glass h3").first.hover()
    expect(say(page)).to_contain_text("a after k")


def test_the_keyboard_reaches_every_cell_and_place(page: Page):
    page.locator('#train-glass .place[tabindex="0"]').focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowUp")
    expect(page.locator("#train-glass .place").nth(7)).to_be_focused()
    page.keyboard.press("ArrowLeft")
    expect(say(page)).to_contain_text("␣ after e: its logit")
    board(page, "v").focus()
    page.keyboard.press("ArrowRight")
    expect(say(page)).to_contain_text("a after e: its logit")
    page.keyboard.press("ArrowDown")
    expect(say(page)).to_contain_text("a after h: its logit")


def test_a_step_can_be_gone_through_stage_by_stage(page: Page):
    later, current = page.locator("#train-glass .later"), page.locator("#train-glass .current b").first
    button(page, "Stage by stage").click()
    expect(say(page)).to_contain_text("Step 1, stage 1 of 8, Logits.")
    expect(later).to_have_count(7)
    assert formula(page, "probs") == "Not computed yet"
    for title in ("Softmax", "Loss", "Gradient", "Moment m", "Moment v", "Change"):
        button(page, "Next stage").click()
        expect(current).to_have_text(re.compile(rf"^\d {title}$"))
        expect(say(page)).to_contain_text(f"of 8, {title}. ")
    expect(later).to_have_count(1)
    button(page, "Next stage").press("Enter")
    expect(say(page)).to_contain_text(fell(STEPS[0], STEPS[1]))
    expect(button(page, "Stage by stage")).to_be_focused()
    expect(later).to_have_count(0)


def test_there_is_one_more_step_as_often_as_one_likes_up_to_a_thousand(page: Page):
    board(page, "table").hover(position=cell_at(page, "table", A, E))
    expect(say(page)).to_contain_text("e after a")
    button(page, "One more step").press("Enter")
    expect(say(page)).to_contain_text(fell(STEPS[1], STEPS[2]))
    expect(say(page)).to_contain_text("e after a")
    assert f" · {shown(STEPS[0].v[0, 0])} + " in formula_at(page, "v", 0, 0)
    button(page, "Ten more").click()
    expect(say(page)).to_contain_text(fell(STEPS[11], STEPS[12]))
    chart = page.locator("#train-glass .chart svg")
    expect(chart).to_have_attribute(
        "aria-label", re.compile(rf"to {STEPS[12].loss:.3f} in 12 steps; no table")
    )
    button(page, "Ten more").evaluate("button => { for (let i = 0; i < 100; i++) button.click(); }")
    expect(say(page)).to_contain_text("Step 1,000: ")
    expect(say(page)).to_contain_text("1,000 steps are the most that are shown here: start again.")
    expect(button(page, "One more step")).to_have_attribute("aria-disabled", "true")
    button(page, "One more step").click(force=True)
    button(page, "Start again").click()
    expect(say(page)).to_contain_text(fell(STEPS[0], STEPS[1]))
    expect(button(page, "One more step")).to_have_attribute("aria-disabled", "false")


def formula_at(page: Page, stage: str, row: int, column: int) -> str:
    board(page, stage).click(position=cell_at(page, stage, row, column))
    return formula(page, stage)


def test_a_text_of_ones_own_has_its_own_table(page: Page):
    text = page.locator("#train-glass-text textarea")
    button(page, "One more step").click()
    text.fill("<b>to be, or not to be</b>")
    expect(page.locator("#train-glass .cut")).to_have_text("Of this text, the last 24 characters are used.")
    expect(say(page)).to_contain_text("Step 1: ")
    expect(page.locator("#train-glass .place").first).to_have_text(re.compile("^1 > → t "))
    text.fill("short")
    problem = page.locator("#train-glass").get_by_text("this text has 5.")
    expect(problem).to_have_role("status")
    expect(say(page)).to_be_hidden()
    text.fill("long enough")
    expect(say(page)).to_be_visible()
    expect(problem).to_be_hidden()
    expect(page.locator("#train-glass .cut")).to_be_hidden()


@needs_axe
def test_everybody_can_use_it_on_a_phone_too(page: Page):
    assert not violations(page, "#train-glass")
    button(page, "Stage by stage").click()
    assert not violations(page, "#train-glass")
    page.set_viewport_size(PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    for item in ("button", ".place"):
        heights = page.locator(f"#train-glass {item}").evaluate_all(
            "all => all.map((node) => node.getBoundingClientRect().height)"
        )
        assert min(heights) >= 40, item
    for _ in range(6):
        button(page, "Next stage").click()
    expect(board(page, "change")).to_be_in_viewport(ratio=0.9)
    page.locator("#tab-train").get_by_text("The PyTorch behind it").last.click()
    expect(page.locator("#tab-train .cm-content")).to_contain_text("def one_step(")
