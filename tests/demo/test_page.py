"""The page in headless Chromium, with a tiny model."""

import shutil

import numpy as np
import pytest
from PIL import Image

from nextgpt_pl.demo.replies import Settings
from nextgpt_pl.media.writing import save_audio

pytestmark = pytest.mark.slow

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
WAIT = 120_000  # milliseconds; of a test that fails


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    if BROWSER is None:
        pytest.skip("no Chromium: apt-get install chromium")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def address(outputs, tmp_path_factory):
    pytest.importorskip("gradio", reason="pip install -e '.[demo]'")
    from nextgpt_pl.demo.captions import pocket_captions
    from nextgpt_pl.demo.models import Models, find_models
    from nextgpt_pl.demo.page import build_page, serve
    from nextgpt_pl.demo.uploads import Limits

    folder, limits = tmp_path_factory.mktemp("page"), Limits(megabytes=1, seconds=5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder / "gradio"))
        page = build_page(Models(find_models(outputs), pocket_captions()), limits, folder)
        yield serve(page, limits, wait=False)
        page.close()


@pytest.fixture
def visit(browser, address):
    """Opens the page in a window of a size; no page asks another server for anything, or fails in a script."""
    asked, errors, contexts = [], [], []

    def visit(size=DESKTOP):
        context = browser.new_context(viewport=size)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT)
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        page.locator("#box textarea").wait_for()
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not errors
    assert not [url for url in asked if not url.startswith((address, "data:", "blob:"))]


def _ask(page, text, *files):
    if files:
        with page.expect_file_chooser() as chooser:
            page.locator("#box [data-testid=upload-button]").click()
        chooser.value.set_files([str(file) for file in files])
        page.locator("#box .thumbnail-item").nth(len(files) - 1).wait_for()
    page.locator("#box textarea").fill(text)
    page.locator("#box .submit-button").click()


def _choose(page, *media):
    page.get_by_role("button", name="Controls").click()
    page.locator("#decides").get_by_text("only these:").click()
    for name in media:
        page.locator("#media").get_by_label(name, exact=True).check()
    page.get_by_label("max tokens").fill("8")


def test_zero_is_the_decoders_own():
    pytest.importorskip("gradio", reason="pip install -e '.[demo]'")
    from nextgpt_pl.demo.page import settings_of

    own = settings_of("a", "the model decides", ["image"], 3, 0.5, 9, 0, 0, True)
    assert own == Settings("a", None, 3, 0.5, 9, None, None, True)
    given = settings_of("a", "only these:", [], 3, 0.5, 9, 2.5, 7, False)
    assert given == Settings("a", [], 3, 0.5, 9, 2.5, 7, False)


def _sideways(page):
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


def test_an_upload_is_answered_with_media_that_play_and_the_pane(visit, tmp_path):
    Image.new("RGB", (64, 64), "red").save(tmp_path / "my cat.png")
    page = visit()
    _choose(page, "images", "videos", "audios")
    page.get_by_role("button", name="What the model wrote").click()
    page.locator("#recorded input").check()
    _ask(page, "<img src=x onerror=alert(1)> What **is** it?", tmp_path / "my cat.png")
    user, bot = page.locator("#chat [data-testid=user]"), page.locator("#chat [data-testid=bot]")
    bot.locator("audio").first.wait_for(state="attached")
    # text is shown literally
    assert "<img src=x onerror=alert(1)> What **is** it?" in user.last.text_content()
    assert user.locator("img[src=x]").count() == 0
    assert page.locator("#chat [data-testid=user] img").count() == 1
    picture = bot.locator("img").first
    assert picture.evaluate("image => image.naturalWidth") == 64
    for kind, seconds in (("video", 2.0), ("audio", 2.0)):
        player = bot.locator(kind).first
        assert player.evaluate(
            """async player => {
                player.muted = true; await player.play();
                await new Promise(done => player.addEventListener('timeupdate', done, {once: true}));
                return [player.error, player.duration];
            }"""
        ) == [None, pytest.approx(seconds, abs=0.2)]
    pane = page.locator("#pane")
    pane.locator("text=[IMG0]").first.wait_for()
    pane.locator("text=nearest captions").nth(2).wait_for()
    assert pane.locator(".token.signal.audio").count() >= 8


def test_errors_are_messages_and_the_next_message_is_answered(visit, tmp_path):
    save_audio(np.zeros(16000 * 6, np.float32), tmp_path / "long.wav", 16000)
    page = visit()
    _choose(page)
    _ask(page, "What is it?", tmp_path / "long.wav")
    page.locator("#chat").get_by_text("error: long.wav: 6.0 seconds, at most 5 are read").wait_for()
    page.locator("#box .thumbnail-item").wait_for(state="detached")
    _ask(page, "Hello!")
    page.wait_for_function("document.querySelectorAll('#chat [data-testid=bot]').length == 2")


def test_a_reply_is_stopped(visit):
    page = visit()
    _choose(page, "images")
    page.get_by_label("steps (0: own)").fill("1000")
    _ask(page, "Draw!")
    page.locator("#chat [data-testid=bot] img").wait_for()  # a preview
    page.locator("#stop").click()
    page.locator("#chat").get_by_text("(stopped)").wait_for()


def test_a_phone_has_no_horizontal_scroll(visit):
    page = visit(PHONE)
    assert _sideways(page) == 0
    page.locator("#chat").get_by_text("Which shapes do you know?").click()
    page.wait_for_function("document.querySelector('#box textarea').value == 'Which shapes do you know?'")
    page.get_by_role("button", name="What the model wrote").click()
    page.locator("#recorded input").check()
    _choose(page, "images")
    page.locator("#box .submit-button").click()
    page.locator("#pane").get_by_text("nearest captions").first.wait_for()
    assert _sideways(page) == 0
    for box in (page.locator(name).bounding_box() for name in ("#chat", "#box", "#stop", "#retry", "#clear", "#pane")):
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= PHONE["width"]
