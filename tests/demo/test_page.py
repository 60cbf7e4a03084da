"""The page in headless Chromium, with a tiny model."""

import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nextgpt_pl.media.writing import save_audio

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
WAIT = 400_000  # milliseconds; of a test that fails
MICROPHONE = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="pip install -e '.[test]'")
    with api.sync_playwright() as playwright:
        names = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
        path = next((name for name in names if name), playwright.chromium.executable_path)
        if not Path(path).exists():
            pytest.skip("no Chromium: playwright install chromium, or apt-get install chromium")
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", *MICROPHONE])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def address(outputs, tmp_path_factory):
    pytest.importorskip("gradio", reason="pip install -e '.[demo]'")
    from served import running

    from nextgpt_pl.demo.captions import pocket_captions
    from nextgpt_pl.demo.models import Models, find_models
    from nextgpt_pl.demo.page import application, build_page
    from nextgpt_pl.demo.uploads import Limits

    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder / "gradio"))
        models, limits = Models(find_models(outputs), pocket_captions()), Limits(megabytes=4, seconds=60)
        with running(application(build_page(models, limits, folder), limits)) as address:
            yield address


@pytest.fixture
def visit(browser, request):
    """Opens the page in a window of a size; no page asks another server for anything, or fails in a script."""
    asked, errors, contexts = [], [], []

    def visit(size=DESKTOP, address=None):
        context = browser.new_context(viewport=size, permissions=["microphone"])
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT)
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address or request.getfixturevalue("address"))
        page.locator("#box textarea").wait_for()
        return page

    yield visit
    for context in contexts:
        context.close()
    # Gradio's recorder gives up its last read when it closes
    assert not [error for error in errors if error != "The user aborted a request."]
    assert not [url for url in asked if not url.startswith(("http://127.0.0.1:", "data:", "blob:"))]


def _ask(page, text, *files):
    if files:
        with page.expect_file_chooser() as chooser:
            page.locator("#box [data-testid=upload-button]").click()
        chooser.value.set_files([str(file) for file in files])
        page.locator("#box .thumbnail-item").nth(len(files) - 1).wait_for()
    page.locator("#box textarea").fill(text)
    page.locator("#box .submit-button").click()


def _choose(page, *media, tokens=8):
    page.get_by_role("button", name="Controls").click()
    page.locator("#decides").get_by_text("only these:").click()
    for name in media:
        page.locator("#media").get_by_label(name, exact=True).check()
    page.get_by_label("max tokens").fill(str(tokens))


def _begin_long_reply(page, text):
    """Ask for an image in 1,000 steps, and wait for its preview."""
    _choose(page, "images")
    page.get_by_label("steps (0: own)").fill("1000")
    _ask(page, text)
    page.locator("#chat [data-testid=bot] img").wait_for()


def _messages(page, role):
    """The texts of all messages of ``user`` or ``bot``; a message of several items is one."""
    return [row.inner_text().strip() for row in page.locator(f"#chat .{role}-row").all()]


def _wait_for_reply(page, number):
    """Wait for the end of a reply: there is nothing to stop."""
    page.wait_for_function(
        "number => document.querySelectorAll('#chat .bot-row').length == number"
        " && document.querySelector('#stop').disabled",
        arg=number,
    )


def _sideways(page):
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


@pytest.mark.slow
def test_an_upload_is_answered_with_media_that_play_and_the_pane(visit, tmp_path):
    Image.new("RGB", (64, 64), "red").save(tmp_path / "my cat.png")
    page = visit()
    _choose(page, "images", "videos", "sounds")
    page.get_by_role("button", name="What the model wrote").click()
    page.locator("#recorded input").check()
    _ask(page, "<img src=x onerror=alert(1)> What **is** it?", tmp_path / "my cat.png")
    user, bot = page.locator("#chat [data-testid=user]"), page.locator("#chat [data-testid=bot]")
    _wait_for_reply(page, 1)
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
    assert page.locator("#chat [title=Share]:visible").count() == 0


@pytest.mark.long
def test_stop_a_second_turn_another_try_and_a_new_conversation(visit):
    page = visit()
    _begin_long_reply(page, "one")
    # what is written meanwhile stays in the box
    _ask(page, "two")
    page.get_by_text("A reply is being generated").wait_for()
    page.locator("#stop").click()
    page.locator("#chat").get_by_text("(stopped)").wait_for()
    assert _messages(page, "user") == ["one"]
    assert page.locator("#box textarea").input_value() == "two"

    page.locator("#media").get_by_label("images", exact=True).uncheck()
    page.get_by_label("max tokens").fill("2")
    page.locator("#box .submit-button").click()
    _wait_for_reply(page, 2)
    assert _messages(page, "user") == ["one", "two"]
    assert page.locator("#box textarea").input_value() == ""
    short = _messages(page, "bot")[1]

    page.get_by_label("max tokens").fill("6")
    page.locator("#retry").click()
    page.wait_for_function(
        "short => { const text = [...document.querySelectorAll('#chat .bot-row')].pop().innerText.trim();"
        " return text.startsWith(short) && text.length > short.length }",
        arg=short,
    )
    assert _messages(page, "user") == ["one", "two"]

    page.locator("#clear").click()
    page.locator("#chat").get_by_text("Which shapes do you know?").wait_for()
    assert _messages(page, "user") == _messages(page, "bot") == []


@pytest.mark.long
def test_errors_are_messages_and_the_next_message_is_answered(visit, tmp_path):
    save_audio(np.zeros(16000 * 61, np.float32), tmp_path / "long.wav", 16000)
    page = visit()
    _choose(page)
    _ask(page, "What is it?", tmp_path / "long.wav")
    page.locator("#chat").get_by_text("error: long.wav: 61.0 seconds, at most 60 are read").wait_for()
    page.locator("#box .thumbnail-item").wait_for(state="detached")
    _ask(page, "Hello!")
    _wait_for_reply(page, 2)
    assert "error" not in _messages(page, "bot")[1]


@pytest.mark.long
def test_a_recording_of_the_microphone_is_sent(visit):
    page = visit()
    _choose(page)
    page.locator("#box [data-testid=microphone-button]").click()
    page.get_by_role("button", name="Start recording").click()
    page.wait_for_timeout(1500)  # of sound
    page.get_by_role("button", name="Stop recording").click()
    page.get_by_role("button", name="Attach audio").click()
    page.locator("#box .thumbnail-item").wait_for()
    page.locator("#box .submit-button").click()
    _wait_for_reply(page, 1)
    assert "error" not in _messages(page, "bot")[0]
    recording = page.locator("#chat .user-row audio")
    recording.wait_for(state="attached")
    assert recording.evaluate("player => player.duration") > 0.5


@pytest.mark.long
def test_a_phone_has_no_horizontal_scroll(visit):
    page = visit(PHONE)
    assert _sideways(page) == 0
    # an example with a picture, of another run
    page.locator("#run input").click()
    page.get_by_role("option", name="instruct/two").click()
    page.locator("#chat").get_by_text("What is in this image?").click()
    page.wait_for_function("document.querySelector('#box textarea').value == 'What is in this image?'")
    page.locator("#box .thumbnail-item img").wait_for()
    page.get_by_role("button", name="What the model wrote").click()
    page.locator("#recorded input").check()
    _choose(page, "images")
    page.locator("#box .submit-button").click()
    _wait_for_reply(page, 1)
    page.locator("#pane").get_by_text("nearest captions").first.wait_for()
    assert page.locator("#chat .user-row img").evaluate("image => image.naturalWidth") == 64
    assert "error" not in _messages(page, "bot")[0]
    assert _sideways(page) == 0
    for box in (page.locator(name).bounding_box() for name in ("#chat", "#box", "#stop", "#retry", "#clear", "#pane")):
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= PHONE["width"]


@pytest.mark.long
def test_sigterm_during_a_reply_leaves_no_files(visit, served_demo, outputs):
    demo = served_demo(outputs)
    page = visit(address=demo.address)
    _begin_long_reply(page, "one")
    assert list(demo.folder.glob("nextgpt_demo*"))
    demo.process.send_signal(signal.SIGTERM)
    assert demo.process.wait(60) == 0
    assert list(demo.folder.glob("nextgpt_demo*")) == []
    assert "Traceback" not in demo.log.read_text()
