"""What events of the page do, without a browser."""

import pytest

pytest.importorskip("gradio", reason="pip install -e '.[demo]'")

from nextgpt_pl.demo.captions import pocket_captions
from nextgpt_pl.demo.handlers import CHOSEN, DECIDES, Handlers, clear, settings_of, stop
from nextgpt_pl.demo.models import Models, find_models
from nextgpt_pl.demo.replies import Settings
from nextgpt_pl.demo.uploads import Limits
from nextgpt_pl.modality import GENERATED

CONTROLS = ("instruct/one", CHOSEN, [], 0, 0, 4, 0, 0, False)


def test_zero_is_the_decoders_own():
    own = settings_of("a", DECIDES, ["image"], 3, 0.5, 9, 0, 0, True)
    assert own == Settings("a", None, 3, 0.5, 9, None, None, True)
    given = settings_of("a", CHOSEN, [], 3, 0.5, 9, 2.5, 7, False)
    assert given == Settings("a", [], 3, 0.5, 9, 2.5, 7, False)


@pytest.fixture
def called(outputs, tmp_path):
    return Handlers(Models(find_models(outputs), pocket_captions()), Limits(), tmp_path)


def _skips(*values):
    return all(isinstance(value, dict) and value.get("__type__") == "update" and len(value) == 1 for value in values)


def test_a_message_is_taken_once_and_kept_in_the_box_while_a_reply_is_awaited(called):
    box, session, shown, stopping = called.take({"text": "one", "files": []}, None)
    assert box is None
    assert stopping.interactive
    assert [message["content"][0]["text"] for message in shown] == ["one", "..."]
    assert _skips(*called.take({"text": "two", "files": []}, session))
    assert _skips(*called.again(session))
    *_, (_, shown, _, stopping) = called.answer(session, *CONTROLS)
    assert shown[-1]["content"][0]["text"] not in ("", "...")
    assert not stopping.interactive
    (nothing,) = called.answer(session, *CONTROLS)  # of the second message, which was not taken
    assert _skips(*nothing)
    _, session, shown, _ = called.take({"text": "two", "files": []}, session)
    assert len(shown) == 4


def test_another_try_answers_the_last_message_and_a_new_conversation_has_none(called):
    assert _skips(*called.again(None))
    _, session, *_ = called.take({"text": "one", "files": []}, None)
    *_, (_, shown, _, _) = called.answer(session, *CONTROLS)
    first = shown[-1]["content"][0]["text"]
    session, shown, _ = called.again(session)
    assert [message["content"][0]["text"] for message in shown] == ["one", "..."]
    *_, (_, shown, _, _) = called.answer(session, *CONTROLS[:5], 8, *CONTROLS[6:])
    assert shown[-1]["content"][0]["text"].startswith(first)
    assert len(shown[-1]["content"][0]["text"]) > len(first)
    stop(session)
    assert clear(session) == (None, [], "")
    assert not session.folder.exists()


def test_a_chosen_run_has_its_examples_and_media(called):
    chat, media = called.chosen_run("instruct/two")
    assert len(chat.examples) == 6
    assert [value for _, value in media.choices] == [modality.value for modality in GENERATED]
    assert media.value == []
    _, media = called.chosen_run("../x")
    assert media.choices == []
