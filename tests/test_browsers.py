"""The page in browsers that refuse something, with texts that are hard to see and files with odd names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from browser import errors, open_tab, pick, set_number, watched_page
from conftest import TINY

from charlm import checkpoints
from charlm.bench.serving import CHROMIUM, CHROMIUM_ARGUMENTS
from charlm.models import build
from charlm.tokenizer import CharTokenizer
from charlm.ui.generate.numbers import asked_by_link

pytestmark = [pytest.mark.slow, pytest.mark.thorough]

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
expect = playwright.expect
expect.set_options(timeout=30_000)
Page = playwright.Page

LABELS = {
    **{"\t": "⇥", "\n": "↵", "\r": "CR", " ": "␣", "\u00a0": "NBSP", "\u00ad": "SHY", "\u200b": "ZWSP"},
    **{"\u200d": "ZWJ", "\u200e": "LRM", "\ufeff": "BOM", "\x00": "U+0000", "\u2028": "U+2028"},
    **{"\ufe0f": "U+FE0F", "\ue000": "U+E000", "\u0301": "◌\u0301", "é": "é", "א": "א", "👩": "👩"},
}
"""Characters, and how each is shown alone."""


@pytest.fixture
def page(url: str, chromium: playwright.Browser) -> Iterator[Page]:
    """The page, in a browser without the Clipboard API, as it is by plain http from another machine."""
    with watched_page(chromium) as page:
        page.context.add_init_script("delete Navigator.prototype.clipboard")
        page.goto(url)
        yield page


@pytest.fixture(scope="module")
def odd_zip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A model that has learned nothing, and writes `LABELS` in any order."""
    folder = tmp_path_factory.mktemp("odd")
    model = build("gpt", CharTokenizer("".join(sorted(LABELS))), TINY, seed=1)
    checkpoints.save(model, {}, folder / "model")
    checkpoints.pack(folder / "model", folder / "model.zip")
    return (folder / "model.zip").read_bytes()


@pytest.fixture
def odd(page: Page, odd_zip: bytes) -> str:
    """The title of that model, the visitor's own."""
    open_tab(page, "Train")
    page.get_by_text("Keep it, or bring one back").click()
    upload(page, "train-bring", "my model.zip", odd_zip)
    expect(page.locator("#train-notes")).to_contain_text("The model is here")
    open_tab(page, "Generate")
    return "my model"


def upload(page: Page, block: str, name: str, data: bytes) -> None:
    page.locator(f"#{block} input[type=file]").set_input_files(
        {"name": name, "mimeType": "application/octet-stream", "buffer": data}
    )
    expect(page.locator(f"#{block}").get_by_label("Clear")).to_be_visible()


def set_length(page: Page, length: int) -> None:
    if not page.locator("#length").is_visible():
        page.get_by_text("More settings").click()
    set_number(page, "length", str(length))


def write(page: Page, prompt: str, length: int) -> None:
    page.locator("#prompt textarea").fill(prompt)
    set_length(page, length)
    page.locator("#pace").select_option("Infinity")
    page.locator("#start").click()
    expect(page.locator("#written .prompt")).to_have_text(prompt)
    expect(page.locator("#written .ch")).to_have_count(length)


def pasted(page: Page) -> str:
    """What was copied."""
    page.locator("#prompt textarea").fill("")
    page.locator("#prompt textarea").press("ControlOrMeta+V")
    return page.locator("#prompt textarea").input_value()


def test_a_browser_that_keeps_nothing(url: str, started: playwright.Playwright, tmp_path: Path):
    refuse = {"profile": {"default_content_setting_values": {"cookies": 2}}}
    (tmp_path / "Default").mkdir()
    (tmp_path / "Default" / "Preferences").write_text(json.dumps(refuse))
    context = started.chromium.launch_persistent_context(
        tmp_path, executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS
    )
    page = context.new_page()
    page.goto(f"{url}robots.txt")
    with pytest.raises(playwright.Error, match="Access is denied"):
        page.evaluate("localStorage.length")
    found = errors(page)
    page.goto(url)
    write(page, "ROMEO:", 20)
    expect(page.locator("#written .ch")).to_have_count(20)
    context.close()
    assert not found


def test_a_text_is_copied_without_the_clipboard_api(page: Page):
    assert page.evaluate("navigator.clipboard") is None
    write(page, "ROMEO:", 20)
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_focused()
    assert pasted(page) == "ROMEO:" + "".join(page.locator("#written .ch").all_text_contents())
    page.evaluate("document.execCommand = () => false")
    page.get_by_role("button", name="Link").click()
    expect(page.get_by_role("button", name="Not copied")).to_be_visible()


def test_a_link_to_ones_own_model_tells_its_title_and_not_its_name(page: Page, odd: str):
    pick(page, "model", odd)
    set_number(page, "temperature", "1.1")
    write(page, "\u200dé", 20)
    page.get_by_role("button", name="Link").click()
    address = pasted(page)
    asked = parse_qs(urlsplit(address).query)
    assert asked.pop("own") == [odd]
    assert asked.keys() == {"prompt", "temperature", "top_k", "top_p", "length", "seed", "samples"}

    page.goto(address)
    notes = page.locator("#generate-notes")
    expect(notes).to_contain_text("This link asks for the model “my model”, which it does not bring along")
    expect(page.locator("#prompt textarea")).to_have_value("\u200dé")
    expect(page.locator("#temperature input[type=number]")).to_have_value("1.1")
    page.wait_for_timeout(500)
    expect(page.locator("#written .prompt")).to_have_count(0)
    write(page, "ROMEO:", 20)
    expect(notes).to_be_empty()


@pytest.mark.parametrize("query", [{"model": "mine"}, {"own": "mine"}, {"own": "gpt", "model": "gpt"}])
def test_a_link_to_a_model_that_is_not_shared_is_told(query: dict[str, str]):
    asked, (note,) = asked_by_link(query | {"prompt": "a", "seed": "7", "top_p": "2"}, ["gpt"].__contains__)
    assert asked == {"prompt": "a", "seed": 7}
    assert f"the model “{query.get('own', 'mine')}”, which it does not bring along" in note
    assert asked_by_link({"model": "gpt"}, ["gpt"].__contains__) == ({"model": "gpt"}, [])


def test_every_character_can_be_seen(page: Page, odd: str):
    open_tab(page, "Inside the model")
    page.locator("#inside-text textarea").fill("é")
    pick(page, "inside-model", odd)
    bars = page.locator("#inside-candidates .bar-label")
    expect(bars).to_have_count(len(LABELS))
    assert sorted(bars.all_text_contents()) == sorted(LABELS.values())

    text = "👩\u200d👩\ufe0f é\u0301\u00a0א\u200b"
    labels = [LABELS[char] for char in text]
    open_tab(page, "Tokens")
    page.locator("#tokens-text textarea").fill(text)
    page.get_by_text("the characters of this text").click()
    expect(page.locator("#tokens-ids b")).to_have_text(labels)

    open_tab(page, "Attention")
    page.locator("#attention-text textarea").fill(text)
    pick(page, "attention-model", odd)
    expect(page.locator("#attention .left").first.locator("span")).to_have_text(labels)
    page.locator("#attention-chars .ch").nth(1).click()
    expect(page.locator("#attention .say")).to_contain_text("ZWJ (1) looks most at 👩 (0): ")


PLACES = """(prompt) => {
    const box = prompt.closest(".page").getBoundingClientRect();
    return [0, 3].map((i) => {
        const place = prompt.children[i].getBoundingClientRect();
        return [place.left - box.left, box.right - place.right];
    });
}"""
"""How far the first and the fourth character of a prompt are from the left and from the right."""


def test_emoji_stay_whole_and_hebrew_begins_at_the_right(page: Page, odd: str):
    pick(page, "model", odd)
    write(page, "אא\né" + "👩" * 30, 1)
    expect(page.locator("#written code").first).to_have_text("👩" * 24)
    assert page.locator("#prompt textarea").evaluate("e => getComputedStyle(e).unicodeBidi") == "plaintext"
    (_, hebrew), (french, _) = page.locator("#written .prompt").evaluate(PLACES)
    assert hebrew < 5
    assert french < 5


def test_a_translator_leaves_what_the_model_read_and_wrote(page: Page):
    write(page, "ROMEO:", 20)
    page.locator("#written .ch").nth(3).click()
    open_tab(page, "Attention")
    expect(page.locator("#attention .board")).to_have_count(3)
    open_tab(page, "Inside the model")
    expect(page.locator("#inside-candidates .bar-row")).not_to_have_count(0)
    open_tab(page, "Tokens")
    page.locator('[data-cell="y-1-1"]').hover()
    page.mouse.move(0, 0)  # What is translated is longer: something else would come under the mouse.
    shown = page.locator(
        "#written :is(.page span, code bdi, .guess-row:not(.rest, .head) bdi),"
        "#attention-chars *, #attention .labels *, #attention .say bdi,"
        "#inside-network :is(code bdi, .chip b), #inside-candidates .bar-row bdi,"
        "#tokens :is(.token b, code, .say bdi)"
    )
    before = shown.all_text_contents()
    translated = page.evaluate("""() => {
        const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        let translated = 0;
        while (texts.nextNode()) {
            if (texts.currentNode.parentElement.translate === false) continue;
            texts.currentNode.data = "übersetzt";
            translated += 1;
        }
        return translated;
    }""")
    assert translated > 100
    assert len(before) > 300
    assert shown.all_text_contents() == before


def test_a_page_that_is_left_while_a_text_is_written(url: str, chromium: playwright.Browser):
    page = chromium.new_page()
    page.goto(url)
    chars = page.locator("#written .ch")
    for leave in (page.reload, lambda: page.goto(f"{url}robots.txt") and page.go_back()):
        page.locator("#pace").select_option("100")
        set_length(page, 5000)
        page.locator("#start").click()
        expect(chars.nth(20)).to_be_attached()
        leave()
        # Only now: what is left says that its connection was closed.
        found = errors(page)
        write(page, "ROMEO:", 20)
        expect(chars).to_have_count(20)
        assert not found
    page.close()


TITLES = {
    "ä ö": "ä ö",
    '"it\'s" 👩\u200d👩': "%22it's%22 👩\u200d👩",
    "..%2f..<b>`id`": "..%2f..bid",
    "x" * 200: "x" * 40,
}
"""Names of files, and the titles that models have of them."""


def test_files_with_odd_names(page: Page, odd_zip: bytes):
    open_tab(page, "Train")
    page.get_by_text("A text file").click()
    page.get_by_text("Keep it, or bring one back").click()
    start, notes = page.locator("#train-start"), page.locator("#train-notes")
    for name in TITLES:
        start.click()
        expect(notes).to_have_text("Choose a text file first.")
        upload(page, "train-file", f"{name}.txt", b"too short")
        start.click()
        expect(notes).to_contain_text("too short: the last tenth of it")
        page.locator("#train-file").get_by_label("Clear").click()
        upload(page, "train-bring", f"{name}.zip", odd_zip)
        expect(notes).to_contain_text("The model is here")
        page.locator("#train-bring").get_by_label("Clear").click()
    open_tab(page, "Generate")
    page.locator("#model input").click()
    options = page.get_by_role("option").all_text_contents()
    assert [option.removeprefix("✓ ") for option in options][: len(TITLES)] == [*TITLES.values()][::-1]
