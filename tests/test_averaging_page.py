"""The Averaging tab in a real browser: each number can be reached, and is explained with its numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from browser import PHONE, needs_axe, open_tab, set_number, violations, watched_page

from charlm.ui.averaging import numbers

pytestmark = pytest.mark.slow

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
expect = playwright.expect
expect.set_options(timeout=30_000)
Page = playwright.Page


@contextmanager
def opened(url: str, chromium: playwright.Browser, **options: object) -> Iterator[Page]:
    """Shared by the tests on a desk: each has it `show` what it needs."""
    with watched_page(chromium, **options) as page:
        page.goto(url)
        open_tab(page, "Averaging")
        page.locator("#averaging td").first.wait_for()
        yield page


def show(page: Page, version: int, T: int) -> dict[str, list[list[float | None]]]:
    """Has the page show a version, and tells which numbers it must show."""
    page.locator("#averaging-version label").nth(version - 1).click()
    set_number(page, "averaging-T", str(T))
    expect(page.locator("#averaging h2").first).to_contain_text(f"Version {version}")
    expect(page.locator('#averaging [data-matrix="out"] tbody tr')).to_have_count(T)
    return numbers.explain(version, T, 1337)["matrices"]


def cell(page: Page, name: str, r: int, c: int) -> playwright.Locator:
    return page.locator(f'#averaging [data-matrix="{name}"] [data-r="{r}"][data-c="{c}"]')


def number(x: float) -> str:
    """As the page writes it."""
    return f"{x:.2f}".replace("-", "−")


def dot(a: list[float], b: list[float]) -> str:
    return " + ".join(f"{number(x)} · {number(y)}" for x, y in zip(a, b, strict=True))


def test_a_longer_text_adds_rows_and_changes_none(page: Page):
    def rows() -> list[list[str]]:
        return page.locator("#averaging [data-matrix] tbody tr").evaluate_all(
            """rows => rows.map((row) => [row.closest("table").dataset.matrix,
                ...[...row.children].map((cell) => cell.textContent + cell.style.cssText)])"""
        )

    def kept(rows: list[list[str]], name: str) -> list[list[str]]:
        width = 7 if name in ("scores", "wei") else 6
        return [row[:width] for row in rows if row[0] == name][:5]

    show(page, 4, 5)
    before = rows()
    show(page, 4, 8)
    after = rows()
    for name in ("x", "q", "k", "v", "scores", "wei", "out"):
        assert kept(after, name) == kept(before, name)
    assert [row[1] for row in after if row[0] == "x"] == [f"{t} {char}" for t, char in enumerate("ROMEO:↵B")]


def test_every_cell_is_explained_with_its_numbers(page: Page):
    say = page.locator("#averaging .say")
    m = show(page, 4, 6)
    head = numbers.explain(4, 6, 1337)["projections"]
    exps = [math.exp(a) for a in m["scores"][3][:4]]
    shares = " + ".join(f"exp({number(a)})" for a in m["scores"][3][:4])
    for name, r, c, said in (
        (
            "wei",
            3,
            1,
            f"exp({number(m['scores'][3][1])}) / ({shares}) = {number(exps[1])} / {number(sum(exps))}",
        ),
        ("wei", 3, 4, f"exp(−∞) / ({shares}) = 0 / {number(sum(exps))} = 0"),
        (
            "scores",
            3,
            1,
            f"q[3] · k[1] / √4 = ({dot(m['q'][3], m['k'][1])}) / 2 = {number(m['scores'][3][1])}",
        ),
        ("scores", 1, 3, "−∞: 3 comes after 1"),
        ("k", 2, 3, f"{dot(m['x'][2], head['k'][3])} = {number(m['k'][2][3])}"),
        ("v", 4, 0, f"{dot(m['x'][4], head['v'][0])} = {number(m['v'][4][0])}"),
        ("x", 4, 2, f"{number(m['x'][4][2])}: a random number (seed 1337)"),
        ("out", 5, 2, f"{dot(m['wei'][5], [row[2] for row in m['v']])} = {number(m['out'][5][2])}"),
    ):
        cell(page, name, r, c).hover()
        expect(say).to_contain_text(f"{name}[{r}, {c}] = ")
        expect(say).to_contain_text(said)
        expect(page.locator("#averaging .target")).to_have_count(1)
    show(page, 2, 6)
    cell(page, "wei", 3, 1).hover()
    expect(say).to_contain_text("wei[3, 1] = tril[3, 1] / (sum of row 3) = 1 / 4 = 0.25")
    cell(page, "tril", 1, 3).hover()
    expect(say).to_contain_text("tril[1, 3] = 0: 3 comes after 1")
    m = show(page, 1, 6)
    cell(page, "out", 2, 3).hover()
    terms = " + ".join(number(row[3]) for row in m["x"][:3])
    expect(say).to_contain_text(f"out[2, 3] = ({terms}) / 3 = {number(m['out'][2][3])}")


def test_each_matrix_is_one_stop_of_the_keyboard(page: Page):
    show(page, 4, 6)
    tables = page.locator("#averaging [data-matrix]")
    expect(tables).to_have_count(7)
    stops = tables.evaluate_all("all => all.map((t) => t.querySelectorAll('[tabindex=\"0\"]').length)")
    assert stops == [1] * 7
    say = page.locator("#averaging .say")
    cell(page, "wei", 0, 0).focus()
    for key, place in (
        ("ArrowDown", "wei[1, 0]"),
        ("ArrowRight", "wei[1, 1]"),
        ("ArrowUp", "wei[0, 1]"),
        ("End", "wei[5, 5]"),
        ("Home", "wei[0, 0]"),
        ("Tab", "v[0, 0]"),
    ):
        page.keyboard.press(key)
        expect(say).to_contain_text(f"{place} = ")


def test_each_table_has_a_caption_and_heads_and_stands_there_once(page: Page):
    for version, names in ((1, "x out"), (2, "tril wei x out"), (4, "scores wei v out x q k")):
        show(page, version, 4)
        tables = page.locator("#averaging table[data-matrix]")
        assert tables.evaluate_all("all => all.map((t) => t.dataset.matrix)") == names.split()
        for table in page.locator("#averaging table").all():
            assert table.locator("caption").inner_text()
            heads = table.locator("tbody tr > :first-child")
            assert heads.evaluate_all("all => all.every((th) => th.scope === 'row')")
            assert table.locator("thead th[scope=col]").count() > 0


def test_the_page_says_what_is_random_and_what_colours_mean(page: Page):
    m = show(page, 3, 6)
    hint = page.locator("#averaging .hint").first
    expect(hint).to_contain_text("x is random (seed 1337)")
    expect(hint).not_to_contain_text("untrained")
    show(page, 4, 6)
    expect(hint).to_contain_text("The head is untrained")
    scale = number(numbers.explain(4, 6, 1337)["scales"]["v"])
    expect(page.locator('#averaging [data-matrix="v"] caption')).to_contain_text(f"Full colour: {scale}")
    assert max(abs(x) for row in m["wei"] for x in row) == 1
    expect(page.locator('#averaging [data-matrix="wei"] caption')).to_contain_text("Full colour: 1")


def test_three_versions_side_by_side(page: Page):
    show(page, 2, 6)
    cell(page, "out", 4, 1).hover()
    three = numbers.explain(2, 6, 1337)["three"]
    shown = [f"{out[4][1]:.8f}".replace("-", "−") for out in three]
    expect(page.locator("#averaging .ways td")).to_have_text(shown)
    show(page, 4, 6)
    expect(page.locator("#averaging .ways")).to_have_count(0)


@pytest.mark.parametrize("T", [1, 8, 16])
def test_the_equation_is_one_line(page: Page, T: int):
    last = {}
    for version in (1, 2, 3, 4):
        show(page, version, T)
        lines = page.locator("#averaging .equation")
        assert lines.evaluate_all("all => all.every((line) => line.scrollWidth <= line.clientWidth)")
        assert sum(line.bounding_box()["height"] for line in lines.all()) <= 900
        for sign in page.locator("#averaging .operator").all():
            box, table = sign.bounding_box(), sign.locator("+ table").bounding_box()
            assert box["x"] + box["width"] <= table["x"] + 1
            assert table["y"] <= box["y"] + box["height"] / 2 <= table["y"] + table["height"]
        last[version] = page.locator('#averaging [data-matrix="out"]').bounding_box()["x"]
    assert max(last.values()) - min(last.values()) < 4
    size = cell(page, "wei", 0, 0).evaluate("td => getComputedStyle(td).fontSize")
    assert (size == "0px") == (T > 8)


def test_a_phone_can_tap_every_cell_and_read_the_sentence(url: str, chromium: playwright.Browser):
    with opened(url, chromium, viewport=PHONE, has_touch=True) as page:
        show(page, 4, 16)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        target = cell(page, "out", 2, 1)
        target.tap()
        assert target.bounding_box()["height"] >= 39.9
        say = page.locator("#averaging .say")
        expect(say).to_contain_text("out[2, 1] = ")
        expect(say).to_be_in_viewport(ratio=1)


@pytest.mark.thorough
@needs_axe
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation_in_any_version(url: str, chromium: playwright.Browser, scheme: str):
    with opened(url, chromium, color_scheme=scheme) as page:
        page.locator("#averaging-timing button").click()
        page.locator("#averaging-timing table").wait_for()
        assert violations(page, "#averaging-timing") == []
        for version in (1, 2, 3, 4):
            for T in (8, 16):
                show(page, version, T)
                assert violations(page, "#averaging") == []


def test_the_loop_against_the_matrix(page: Page):
    timing = page.locator("#averaging-timing")
    expect(timing.get_by_role("status")).to_have_text("Not measured yet.")
    timing.get_by_role("button").click()
    expect(timing.get_by_role("status")).to_contain_text("At T = 256")
    expect(timing.locator("tbody th")).to_have_text([str(T) for T in numbers.TIMED_LENGTHS])
    expect(timing.locator("caption")).to_contain_text(f"Medians of {numbers.PAIRS} pairs")
    ratios = [float(text) for text in timing.locator("tbody td:nth-child(4)").all_inner_texts()]
    assert min(ratios) > 0
