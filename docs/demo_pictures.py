"""Make the pictures of docs/demo.md: python docs/demo_pictures.py --run pocket:chat.

Serves the chat page of a run, and talks to it in a browser: three turns on a desktop, three on a phone. Needs
``pip install -e '.[demo,test]'``, and Chromium from the system or from ``playwright install chromium``.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

FOLDER = Path(__file__).parent / "pictures"
SIZES = {"demo_desktop": (1280, 900), "demo_phone": (390, 844)}
SHOWN = "What is in this image?"  # an example with a picture
TURNS = ("Play two short high bells.", "Draw a large red star in the center on black.")
COLOURS, LIMIT = 128, 200_000  # of a picture, which keeps its file below this number of bytes
WAIT = 600_000  # milliseconds


@contextmanager
def served(run: str) -> Iterator[str]:
    """The address of a page."""
    command = [sys.executable, "-m", "nextgpt_pl", "demo", "--run", run, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = next((line.split()[-1] for line in process.stdout if "chat page" in line), None)
            if address is None:
                raise SystemExit("the chat page was not served")
            yield address
        finally:
            process.terminate()


def converse(page: Any) -> None:
    """Three turns, with the pane open."""
    page.get_by_role("button", name="What the model wrote").click()
    page.locator("#recorded input").check()
    page.locator("#chat").get_by_text(SHOWN).click()
    page.locator("#box .thumbnail-item").wait_for()
    for number, text in enumerate((SHOWN, *TURNS), 1):
        page.locator("#box textarea").fill(text)
        page.locator("#box .submit-button").click()
        page.wait_for_function(
            "number => document.querySelectorAll('#chat .bot-row').length == number"
            " && document.querySelector('#stop').disabled",
            arg=number,
        )
    page.wait_for_timeout(2_000)  # for the last picture to be loaded, and scrolled to
    page.evaluate("window.scrollTo(0, 0)")


def photograph(page: Any, file: Path) -> None:
    """Write what the window shows."""
    page.screenshot(path=file)
    with Image.open(file) as picture:
        picture.convert("RGB").quantize(COLOURS).save(file, optimize=True)
    if file.stat().st_size > LIMIT:
        raise SystemExit(f"{file}: {file.stat().st_size:,} bytes, more than {LIMIT:,}")


def main() -> None:
    """Write each picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--run", required=True, help="folder of the run")
    run = parser.parse_args().run
    with served(run) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, (width, height) in SIZES.items():
            page = browser.new_page(viewport={"width": width, "height": height})
            page.set_default_timeout(WAIT)
            page.goto(address)
            converse(page)
            photograph(page, FOLDER / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main()
