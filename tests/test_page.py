"""The page in a real browser, used as a learner would."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from browser import open_tab, pick, set_number, wait_until_trained, watched_page

import charlm
from charlm.bench.serving import free_port, serving
from charlm.service.visitors import ID_CHARS
from charlm.training import presets
from charlm.ui.attention import numbers as attention
from charlm.ui.averaging import numbers as averaging
from charlm.ui.inside import numbers as inside
from charlm.ui.tokens import numbers as tokens

pytestmark = pytest.mark.slow

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
expect = playwright.expect
expect.set_options(timeout=30_000)
Page = playwright.Page


def is_welcome(response: playwright.Response) -> bool:
    """Whether it answers the page's first call, with a visitor and what is theirs."""
    if not response.url.endswith("/run/predict"):
        return False
    data = response.json().get("data", [])
    return len(data) == 2 and isinstance(data[0], str) and len(data[0]) == ID_CHARS and data[1] == []


@pytest.fixture
def page(url: str, chromium: playwright.Browser) -> Iterator[Page]:
    with watched_page(chromium) as page:
        with page.expect_response(is_welcome):
            page.goto(url)
        yield page


def visible(char: str) -> str:
    return {" ": "␣", "\n": "↵"}.get(char, char)


def number(x: float | None) -> str:
    """As the page writes it."""
    if x is None:
        return "−∞"
    return (str(int(x)) if x == int(x) else f"{x:.2f}").replace("-", "−")


def test_a_link_that_makes_no_sense_is_harmless(page: Page, url: str):
    page.goto(f"{url}?model=../etc&temperature=hot&top_k=-9&length=1e99&seed=nan")
    expect(page.locator("#start")).to_be_visible()
    assert page.locator("#prompt textarea").input_value() == "ROMEO:"
    assert page.locator("#temperature input[type=number]").input_value() == "0.8"


def test_settings_survive_a_reload(page: Page):
    page.locator("#prompt textarea").fill("HAMLET:")
    set_number(page, "temperature", "1.2")
    open_tab(page, "Averaging")
    page.locator("#averaging-version label").nth(3).click()
    set_number(page, "averaging-T", "3")
    open_tab(page, "Inside the model")
    page.locator("#inside-text textarea").fill("To be")
    page.wait_for_timeout(500)
    page.reload()
    expect(page.locator("#prompt textarea")).to_have_value("HAMLET:")
    assert page.locator("#temperature input[type=number]").input_value() == "1.2"
    open_tab(page, "Averaging")
    cells = page.locator('#averaging [data-matrix="scores"] tbody td')
    expect(cells).to_have_text(
        [number(v) for row in averaging.explain(4, 3, 1337)["matrices"]["scores"] for v in row]
    )
    open_tab(page, "Inside the model")
    expect(page.locator("#inside-text textarea")).to_have_value("To be")
    open_tab(page, "Tokens")
    expect(page.locator("#tokens-text textarea")).to_have_value("To be")


def test_tokens_tab(page: Page):
    open_tab(page, "Tokens")
    chunk = page.locator("#tokens .chunk li")
    expect(chunk.nth(1)).to_contain_text("when the input is [18, 47] Fi, the target is 56 r")
    text = "A rose by any other name would smell as sweet."
    page.locator("#tokens-text textarea").fill(text)
    set_number(page, "tokens-block", "4")
    set_number(page, "tokens-seed", "5")
    expect(chunk).to_have_count(4)
    shown = tokens.explain(text, charlm.load("bigram").tokenizer, 4, 4, 5)
    ids = page.locator("#tokens-ids .token i")
    expect(ids).to_have_text([str(i) for i in shown["ids"]])
    cells = page.locator('[data-cell^="x-"] i')
    expect(cells).to_have_text([str(i) for row in shown["x"] for i in row])
    page.locator('[data-cell="y-2-1"]').hover()
    sentence = f"When the input is [{shown['x'][2][0]}, {shown['x'][2][1]}]"
    expect(page.locator("#tokens .say")).to_contain_text(sentence)
    expect(page.locator("#tokens .say")).to_contain_text(f"the target is {shown['y'][2][1]}")
    expect(page.locator('#tokens [data-cell^="x-"].lit')).to_have_count(2)

    page.locator("#tokens-text textarea").fill("é")
    expect(page.locator("#tokens-notes")).to_contain_text("type a few more")


def test_averaging_tab(page: Page):
    open_tab(page, "Averaging")
    set_number(page, "averaging-T", "5")
    for version in (1, 2, 3, 4):
        page.locator("#averaging-version label").nth(version - 1).click()
        m = averaging.explain(version, 5, 1337)["matrices"]
        for name, rows in m.items():
            cells = page.locator(f'#averaging [data-matrix="{name}"] tbody td')
            expect(cells).to_have_text([number(v) for row in rows for v in row])
    page.locator('#averaging [data-matrix="out"] tbody td').nth(5).hover()
    terms = " + ".join(
        f"{number(w)} · {number(v[1])}" for w, v in zip(m["wei"][1][:2], m["v"][:2], strict=True)
    )
    expect(page.locator("#averaging .say")).to_contain_text(
        f"out[1, 1] = {terms} = {number(m['out'][1][1])};"
    )
    expect(page.locator("#averaging .lit")).to_have_count(4)
    page.locator("#averaging-timing button").click()
    expect(page.locator("#averaging-timing [role=status]")).to_contain_text("At T = 256")


def test_attention_tab(page: Page):
    open_tab(page, "Attention")
    text = "To be, or not\nto be"
    page.locator("#attention-text textarea").fill(text)
    expect(page.locator("#attention-chars .ch")).to_have_count(len(text))
    model = charlm.load("gpt")
    expect(page.locator("#attention .tile")).to_have_count(1 + model.config.n_layer * model.config.n_head)
    page.locator('[data-head="1-2"]').click()
    expect(page.locator("#attention h2").first).to_contain_text("Layer 2, head 3")
    page.locator("#attention-chars .ch").nth(7).hover()
    weights = attention.explain(model, text).weights[1, 2]
    best = int(weights[7].argmax())
    expect(page.locator("#attention .say")).to_contain_text(
        f"o (7) looks most at {visible(text[best])} ({best}): {weights[7, best]:.3f}"
    )
    expect(page.locator("#attention .say")).to_contain_text("The row sums to 1.000")
    expect(page.locator("#attention .board")).to_have_count(3)
    board = page.locator(".board", has=page.locator('[data-map="weights"]'))
    cell = board.bounding_box()["width"] / len(text)
    board.hover(position={"x": 3.5 * cell, "y": 9.5 * cell})
    expect(page.locator("#attention .say")).to_contain_text(f"weight {weights[9, 3]:.4f}")


def test_a_generated_text_is_carried_to_the_attention_tab(page: Page):
    page.locator("#pace").select_option("Infinity")
    page.get_by_text("More settings").click()
    set_number(page, "length", "300")
    page.locator("#start").click()
    expect(page.locator("#written .ch")).to_have_count(300)
    written = "ROMEO:" + "".join(page.locator("#written .ch").all_text_contents())
    page.locator("#show-attention").click()
    expect(page.locator("#attention-text textarea")).to_have_value(written)
    block_size = charlm.load("gpt").config.block_size
    expect(page.locator("#attention-chars .ch")).to_have_count(block_size)
    expect(page.locator("#attention-notes")).to_contain_text(f"reads the last {block_size}")


def test_inside_tab(page: Page):
    open_tab(page, "Inside the model")
    page.locator("#inside-text textarea").fill("To be, or not to b")
    model = charlm.load("gpt")
    expect(page.locator("#inside-network h2")).to_contain_text(f"{model.parameter_count():,} parameters")
    expect(page.locator("#inside-network .ends code")).to_have_text("To␣be,␣or␣not␣to␣b")
    read, logits, _ = inside.lens(model, "To be, or not to b")
    for part in inside.parts(model, len(read)):
        box = page.locator(f'[data-part="{part["name"]}"]')
        expect(box).to_contain_text(f"({', '.join(map(str, part['shape']))})")
        if part["parameters"]:
            expect(box).to_contain_text(f"{part['parameters']:,} parameters")
    guesses = page.locator("#inside-network .guess")
    expect(guesses).to_have_count(len(logits))
    best = inside.guesses(model, logits)[-1][0]
    expect(guesses.last.locator("b").first).to_have_text(visible(best["char"]))
    set_number(page, "inside-k", "3")
    expect(page.locator("#inside-candidates .kept")).to_have_text("3 of 65 characters can be drawn.")
    row = inside.candidates(model, logits[-1], 1, 3, 1)[0]
    p = f"{100 * row['after']:.1f} %" if row["after"] < 0.9995 else "100 %"
    expect(page.locator("#inside-candidates .bar-value").first).to_have_text(p)


def test_what_is_no_model_on_the_hub_is_told(page: Page):
    open_tab(page, "Train")
    page.get_by_text("Keep it, or bring one back").click()
    page.locator("#train-hub input, #train-hub textarea").fill("<b>no model</b>")
    page.locator("#train-fetch").click()
    told = "'<b>no model</b>' is not the name of a model on the Hub"
    expect(page.locator("#train-notes")).to_contain_text(told)


@pytest.mark.thorough
def test_html_that_was_uploaded_and_that_a_model_writes_is_shown_as_text(page: Page):
    """A model that has learned nothing but tags, with a tag for a name."""
    open_tab(page, "Train")
    page.locator("#train-corpus").get_by_text("Pasted text").click()
    page.locator("#train-text textarea").fill("<i>" * 2000)
    page.locator("#train-preset").get_by_text("bigram").click()
    expect(page.locator("#train-amount input")).to_have_value("1000")
    set_number(page, "train-amount", "400")
    page.locator("#train-name input, #train-name textarea").fill("<i>mine</i>")
    page.locator("#train-start").click()
    wait_until_trained(page)
    expect(page.locator("#train-history")).to_contain_text("<i><i>")
    open_tab(page, "Generate")
    pick(page, "model", "<i>mine</i>")
    page.locator("#prompt textarea").fill("<")
    page.locator("#start").click()
    expect(page.locator("#written")).to_contain_text("<i><i>")
    assert page.locator("i").count() == 0


@pytest.mark.thorough
def test_training_on_a_file(page: Page, tmp_path: Path):
    open_tab(page, "Train")
    book = tmp_path / "book.txt"
    book.write_bytes(
        "Wer reitet so spät durch Nacht und Wind? Es ist der Vater mit seinem Kind.\n".encode("cp1252") * 60
    )
    page.locator("#train-corpus").get_by_text("A text file").click()
    page.locator("#train-file input[type=file]").set_input_files(book)
    page.locator("#train-preset").get_by_text("bigram").click()
    expect(page.locator("#train-amount input")).to_have_value("1000")
    set_number(page, "train-amount", "30")
    expect(page.locator("#train-file")).to_contain_text("book")
    page.locator("#train-start").click()
    expect(page.locator("#train-notes")).to_contain_text("not UTF-8: it was read as")
    wait_until_trained(page)
    expect(page.locator("#train-history")).to_contain_text("After 30 steps")


@pytest.mark.thorough
def test_train_tab(page: Page, corpus: charlm.Corpus, tmp_path: Path):
    open_tab(page, "Train")
    page.locator("#train-corpus").get_by_text("Pasted text").click()
    page.locator("#train-text textarea").fill("too short")
    page.locator("#train-start").click()
    expect(page.locator("#train-notes")).to_contain_text("too short: the last tenth of it")

    page.locator("#train-unit").get_by_text("steps").click()
    expect(page.locator("#train-amount input")).to_have_value("600")
    page.get_by_text("Its sizes").click()
    for size, value in {"block_size": 32, "n_layer": 1, "n_head": 2, "n_embd": 32}.items():
        set_number(page, f"train-{size}", str(value))
    sizes = {"block_size": 32, "n_layer": 1, "n_head": 2, "n_embd": 32}
    parameters = presets.recipe("small", sizes).parameter_count()
    expect(page.locator("#train-forecast")).to_contain_text(f"{parameters:,} parameters")
    page.locator("#train-text textarea").fill(corpus.text)
    set_number(page, "train-amount", "5000")
    page.locator("#train-name textarea, #train-name input").fill("colours")
    page.locator("#train-start").click()
    status = page.locator("#train-progress [data-state]")
    expect(status).to_have_attribute("data-state", "running")
    expect(page.locator("#train-history")).to_contain_text(re.compile("After \\d+ steps"))
    expect(page.locator("#train-history svg")).to_contain_text("counted bigram")

    page.reload()
    open_tab(page, "Train")
    expect(status).to_contain_text("colours")
    expect(status).to_contain_text("characters per second")
    page.locator("#train-stop").click()
    expect(status).to_have_attribute("data-state", "stopped")
    page.locator("#train-history .frame").first.click()
    expect(page.locator("#train-history")).to_contain_text("After 0 steps")
    expect(page.locator("#train-history canvas")).to_have_count(2)

    page.get_by_text("Keep it, or bring one back").click()
    page.locator("#train-pack").click()
    with page.expect_download() as download:
        page.locator("#train-download").click()
    kept = tmp_path / "kept.zip"
    download.value.save_as(kept)
    mine = charlm.load(kept)

    open_tab(page, "Generate")
    pick(page, "model", "colours")
    page.locator("#prompt textarea").fill("ANN:")
    page.get_by_text("More settings").click()
    set_number(page, "length", "40")
    set_number(page, "seed", "3")
    page.locator("#pace").select_option("Infinity")
    page.locator("#start").click()
    expect(page.locator("#written .status")).to_contain_text("40 characters, seed 3")
    expect(page.locator("#written .ch")).to_have_count(40)
    steps = charlm.stream(mine, "ANN:", max_new_chars=40, temperature=0.8, seed=3)
    written = "".join(page.locator("#written .ch").all_text_contents())
    assert written == "".join(step.char for step in steps)

    for tab, models in (("Attention", "attention-model"), ("Inside the model", "inside-model")):
        open_tab(page, tab)
        pick(page, models, "colours")
        expect(page.locator(f"#{models} input")).to_have_value("colours")
    expect(page.locator("#inside-network h2")).to_contain_text(f"{mine.parameter_count():,} parameters")

    open_tab(page, "Train")
    page.locator("#train-bring input[type=file]").set_input_files(kept)
    expect(page.locator("#train-notes")).to_contain_text("The model is here")
    other = page.context.browser.new_context().new_page()
    other.goto(page.url)
    open_tab(other, "Generate")
    other.locator("#model input").click()
    expect(other.get_by_role("option", name="gpt")).to_be_visible()
    expect(other.get_by_role("option", name="colours")).to_have_count(0)
    other.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_sticks_out_on_a_phone(scheme: str, url: str, chromium: playwright.Browser):
    page = chromium.new_page(viewport={"width": 390, "height": 800}, color_scheme=scheme)
    page.goto(url)
    expect(page.locator("#start")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.close()


def test_a_unit_of_time_or_steps_is_offered_with_what_suits_the_model(page: Page):
    open_tab(page, "Train")
    amount = page.locator("#train-amount input")
    page.locator("#train-preset").get_by_text("bigram").click()
    expect(amount).to_have_value("1000")
    page.locator("#train-unit").get_by_text("seconds").click()
    expect(amount).to_have_value("60")
    page.locator("#train-unit").get_by_text("steps").click()
    expect(amount).to_have_value("1000")


@pytest.mark.thorough
def test_settings_and_models_survive_a_restart_of_the_server(chromium: playwright.Browser):
    """They are kept by the name of the control, and readable for the next start."""
    port = free_port()
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    with serving("app.py", port=port) as (url, _):
        with page.expect_response(is_welcome) as welcomed:
            page.goto(url)
        visitor = welcomed.value.json()["data"][0]
        page.locator("#prompt textarea").fill("JULIET:")
        set_number(page, "temperature", "1.25")
        open_tab(page, "Averaging")
        set_number(page, "averaging-T", "9")
        page.wait_for_timeout(1000)
    started_anew = ExitStack()
    with page.expect_response(is_welcome) as welcomed:
        open_tab(page, "Generate")
        page.locator("#start").click()
        expect(page.get_by_text("Connection to the server was lost.").first).to_be_visible()
        # The page finds its way back on its own.
        started_anew.enter_context(serving("app.py", port=port))
    with started_anew:
        assert welcomed.value.request.post_data_json["data"] == [visitor]
        expect(page.locator("#prompt textarea")).to_have_value("JULIET:")
        expect(page.locator("#temperature input[type=number]")).to_have_value("1.25")
        open_tab(page, "Averaging")
        expect(page.locator("#averaging-T input[type=number]")).to_have_value("9")
    context.close()
