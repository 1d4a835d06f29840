"""Takes the README's pictures of every tab from the running app: `make pictures`."""

from __future__ import annotations

from io import BytesIO

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from charlm.bench.serving import CHROMIUM, CHROMIUM_ARGUMENTS, ROOT, serving

PICTURES = ROOT / "charlm" / "ui" / "pictures"
SIZE = {"width": 1240, "height": 860}
MOST_PIXELS = 1600
"""How tall a picture is at most."""


def generate(page: Page) -> None:
    page.get_by_text("More settings").click()
    page.locator("#length input[type=number]").fill("400")
    page.locator("#length input[type=number]").press("Tab")
    page.locator("#seed input").fill("7")
    page.locator("#seed input").press("Tab")
    page.get_by_text("More settings").click()
    page.locator("#pace").select_option("Infinity")
    page.locator("#start").click()
    page.locator("#written .ch").nth(399).wait_for(state="attached")
    page.locator("#written .ch").nth(30).click()


def tokens(page: Page) -> None:
    page.locator('[data-cell="y-2-3"]').hover()


def bigram(page: Page) -> None:
    page.locator('#bigram-tables [data-map="learned"]').hover()


def averaging(page: Page) -> None:
    page.locator("#averaging-version label").nth(3).click()
    page.locator('#averaging [data-matrix="out"] tbody td').nth(9).hover()


def attention(page: Page) -> None:
    page.locator('[data-head="4-3"]').click()
    page.locator('#attention .operation input[value="average"]').check()
    page.locator(".operation-bar .cost", has_text="Δ").first.wait_for()


def inside(page: Page) -> None:
    page.locator("#inside-network .chip").first.wait_for()


def train(page: Page) -> None:
    page.locator("#train-unit").get_by_text("steps").click()
    page.wait_for_function("document.querySelector('#train-amount input').value === '600'")
    page.locator("#train-amount input").fill("120")
    page.locator("#train-amount input").press("Tab")
    page.locator("#train-start").click()
    page.locator('#train-progress [data-state="done"]').wait_for(timeout=300_000)


TABS = {
    "Generate": generate,
    "Tokens": tokens,
    "Bigram": bigram,
    "Averaging": averaging,
    "Attention": attention,
    "Inside the model": inside,
    "Train": train,
}


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    with sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        with serving("app.py") as (url, _):
            page = chromium.new_page(viewport=SIZE, color_scheme="light")
            page.goto(url)
            for name, prepare in TABS.items():
                page.get_by_role("tab", name=name, exact=True).click()
                page.wait_for_timeout(1500)
                prepare(page)
                page.wait_for_timeout(1000)
                page.evaluate("scrollTo(0, 0)")
                picture = Image.open(BytesIO(page.screenshot(full_page=True)))
                picture = picture.crop((0, 0, picture.width, min(picture.height, MOST_PIXELS)))
                picture.convert("RGB").quantize(256).save(
                    PICTURES / f"{name.split()[0].lower()}.png", optimize=True
                )


if __name__ == "__main__":
    main()
