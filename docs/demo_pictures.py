"""Make the pictures of docs/demo.md: python docs/demo_pictures.py ADDRESS, where ``demo`` serves a page.

Needs Playwright for Python, and Chromium as ``chromium``.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

FOLDER = Path(__file__).parent / "pictures"
SIZES = {"demo_desktop": (1280, 900), "demo_phone": (390, 844)}
COLOURS = 128  # of a picture, which keeps its file small
WAIT = 300_000  # milliseconds


def converse(page: Any) -> None:
    """Ask for an image with the pane open, and wait for both."""
    page.locator("#box textarea").wait_for()
    page.get_by_role("button", name="Controls").click()
    page.locator("#decides").get_by_text("only these:").click()
    page.locator("#media").get_by_label("images", exact=True).check()
    page.get_by_role("button", name="Controls").click()
    page.get_by_role("button", name="What the model wrote").click()
    page.locator("#recorded input").check()
    page.locator("#box textarea").fill("Draw a large red star in the center on black.")
    page.locator("#box .submit-button").click()
    page.locator("#pane").get_by_text("nearest captions").first.wait_for()
    page.locator("#chat [data-testid=bot] img").first.wait_for()
    page.wait_for_timeout(15_000)  # the last previews


def main(address: str) -> None:
    """Write each picture."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, (width, height) in SIZES.items():
            page = browser.new_page(viewport={"width": width, "height": height})
            page.set_default_timeout(WAIT)
            page.goto(address)
            converse(page)
            page.evaluate("window.scrollTo(0, 0)")
            file = FOLDER / f"{name}.png"
            page.screenshot(path=file)
            with Image.open(file) as picture:
                picture.convert("RGB").quantize(COLOURS).save(file, optimize=True)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1])
