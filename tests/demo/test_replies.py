"""Messages, replies and errors of the page, with the tiny model and without a browser."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nextgpt_pl.demo import models as module
from nextgpt_pl.demo.captions import pocket_captions
from nextgpt_pl.demo.models import Models, find_models
from nextgpt_pl.demo.replies import Settings, reply
from nextgpt_pl.demo.session import Session
from nextgpt_pl.demo.uploads import Limits
from nextgpt_pl.errors import UserError
from nextgpt_pl.generation.records import SpanRecord, TokenRecord
from nextgpt_pl.modality import MODALITIES, Modality
from nextgpt_pl.samples import ReplyPart


class _Chat:
    """Stands for a model: answers with what it is constructed with, and remembers what it is asked."""

    def __init__(self, *parts):
        self.parts, self.asked = parts, []
        decoders = dict.fromkeys([Modality.IMAGE, Modality.AUDIO])
        self.network = type("Network", (), {"decoders": decoders, "embedded": decoders})()

    def within_context(self, messages, max_new_tokens):
        return messages[-3:]

    def stream_recorded(self, messages, stop, **options):
        self.asked.append((list(messages), options))
        for part in self.parts:
            if stop():
                return
            if isinstance(part, Exception):
                raise part
            yield part


def _image(shade=0, step=None):
    return ReplyPart("image", array=np.full((8, 8, 3), shade, np.uint8), step=step)


@pytest.fixture
def session(tmp_path):
    return Session.begin(tmp_path)


@pytest.fixture
def ask(session, tmp_path, monkeypatch):
    """Sends a message to a stand-in of a model, and returns what the page shows at each step."""
    monkeypatch.setattr("nextgpt_pl.demo.replies._SECONDS", 0)

    def ask(chat, text="Hello!", files=(), **settings):
        monkeypatch.setattr(module.AnyToAny, "from_run", lambda _run, **_: chat)
        models = Models({"a": tmp_path}, {})
        session.ask(text, list(files))
        return [
            [item.get("text") or Path(item["path"]).suffix for item in session.shown[-1]["content"]]
            for _ in reply(session, models, Limits(), Settings("a", **settings))
        ]

    return ask


def test_text_grows_previews_are_replaced_and_turns_are_kept(ask, session):
    chat = _Chat(
        ReplyPart("text", text="It "), ReplyPart("text", text="is:"), _image(1, (5, 20)), _image(2, (10, 20)), _image(3)
    )
    steps = ask(chat)
    assert steps[0] == ["loading a ..."]
    assert steps[1:-1] == [["It "], ["It is:"], *[["It is:", ".png"]] * 3]
    assert steps[-1] == steps[-2]
    shown = session.shown[-1]["content"][-1]
    assert np.array(Image.open(shown["path"])).max() == 3
    assert [m["role"] for m in session.messages] == ["user", "assistant"]
    assert [p.type for p in session.messages[1]["content"]] == ["text", "image"]
    ask(chat, "Again.")
    assert len(chat.asked[1][0]) == 3


def test_a_long_conversation_says_what_is_left_out(ask):
    chat = _Chat(ReplyPart("text", text="Yes."))
    ask(chat)
    ask(chat)
    assert ask(chat)[-1][0].startswith("note: the conversation is longer than the LLM's context; its 2 oldest")


def test_controls_become_options(ask):
    chat = _Chat(ReplyPart("text", text="Yes."))
    ask(chat)
    ask(chat, modalities=["image"], guidance=3.0, steps=7, recorded=True, seed=4, temperature=0.5, max_new_tokens=9)
    plain, given = (options for _, options in chat.asked)
    assert plain["alternatives"] == 0
    assert "image" not in plain
    assert plain["modalities"] is None
    sampling = {"guidance_scale": 3.0, "num_inference_steps": 7}
    del given["previews"]
    assert given == {
        **{"alternatives": 5, "modalities": ["image"], "seed": 4, "temperature": 0.5, "max_new_tokens": 9},
        **{"image": sampling, "audio": sampling},
    }


def test_a_message_that_ends_in_an_error_is_shown_but_no_part_of_the_conversation(ask, session, caplog):
    assert ask(_Chat(), "", ["/nowhere/a.xyz"])[-1][0].startswith("error: 'a.xyz': the file ending")
    assert ask(_Chat(UserError("no decoder")))[-1] == ["error: no decoder"]
    assert ask(_Chat(ReplyPart("text", text="It"), MemoryError()))[-1] == [
        "It",
        "error: MemoryError; the terminal of the demo has its traceback",
    ]
    assert "MemoryError" in caplog.text
    assert ask(_Chat())[-1] == ["(an empty reply)"]
    assert session.messages == []
    assert len(session.shown) == 8


def test_a_stopped_reply_is_kept_without_its_preview(ask, session):
    def pressed():
        yield ReplyPart("text", text="It is:")
        yield _image(1, (5, 20))
        session.stop.set()
        yield _image(2, (10, 20))
        yield _image(3)

    chat = _Chat()
    chat.parts = pressed()
    assert ask(chat)[-1] == ["It is:", "(stopped)"]
    assert [p.text for p in session.messages[1]["content"]] == ["It is:"]


def test_a_reply_that_waits_is_stopped_before_it_begins(ask, session, tmp_path):
    ask(_Chat(ReplyPart("text", text="Yes.")))
    session.ask("two", [])
    assert session.busy
    session.stop.set()
    chat = _Chat(ReplyPart("text", text="No."))
    models = Models({"a": tmp_path}, {})
    models.get("a")
    list(reply(session, models, Limits(), Settings("a")))
    assert [item["text"] for item in session.shown[-1]["content"]] == ["(stopped)"]
    assert len(session.messages) == 2
    assert not session.busy
    # the stop was for that reply alone
    assert ask(chat)[-1] == ["No."]


def test_the_end_of_the_command_ends_a_reply(session, tmp_path, monkeypatch):
    def closing():
        yield ReplyPart("text", text="It")
        models.closed.set()
        yield ReplyPart("text", text=" is")

    chat, models = _Chat(), Models({"a": tmp_path}, {})
    chat.parts = closing()
    monkeypatch.setattr(module.AnyToAny, "from_run", lambda _run, **_: chat)
    session.ask("Hello!", [])
    list(reply(session, models, Limits(), Settings("a")))
    assert [item["text"] for item in session.shown[-1]["content"]] == ["It", "(stopped)"]


def test_texts_are_escaped_in_the_page_and_not_for_the_model(ask, session):
    chat = _Chat(ReplyPart("text", text="<b>1 & 2"))
    assert ask(chat, "<i>?")[-1] == ["&lt;b&gt;1 &amp; 2"]
    assert session.shown[0]["content"] == [{"type": "text", "text": "&lt;i&gt;?"}]
    assert chat.asked[0][0][0]["content"] == [{"type": "text", "text": "<i>?"}]
    assert session.messages[1]["content"][0].text == "<b>1 & 2"
    assert session.undo() == ("<i>?", [])


def test_another_try_replaces_the_last_reply(ask, session):
    chat = _Chat(ReplyPart("text", text="Yes."))
    ask(chat, "one")
    ask(chat, "two")
    assert session.undo() == ("two", [])
    assert len(session.messages) == len(session.shown) == 2
    assert session.undo() is None


def test_a_closed_session_leaves_no_files(ask, session):
    ask(_Chat(_image()))
    folder = session.folder
    assert list(folder.iterdir())
    session.close()
    assert not folder.exists()
    assert session.stop.is_set()


def test_runs_are_found_at_any_depth_and_one_is_loaded_at_a_time(outputs, monkeypatch, tmp_path):
    folders = find_models(outputs)
    assert set(folders) == {"instruct/one", "instruct/two"}
    assert find_models(outputs / "instruct" / "one") == {"one": outputs / "instruct" / "one"}
    with pytest.raises(UserError, match=r"no run with config\.yaml and adapter/manifest\.json"):
        find_models(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        find_models(tmp_path / "no")
    monkeypatch.setenv("NEXTGPT_POCKET_WEIGHTS", str(outputs / "instruct"))
    chat = outputs / "instruct" / "chat"
    chat.symlink_to("one")
    monkeypatch.chdir(tmp_path)
    assert find_models(None) == {"pocket:chat": chat}
    Path("outputs").symlink_to(outputs)
    assert find_models(Path("pocket:chat")) == {"chat": chat}
    chat.unlink()
    assert find_models(None).keys() == set(folders)
    Path("outputs").unlink()
    with pytest.raises(UserError, match=r"'pocket:chat': no weights in .*; give --run"):
        find_models(None)
    loads = []
    monkeypatch.setattr(module.AnyToAny, "from_run", lambda run, **_: loads.append(run) or _Chat())
    models = Models(folders, {})
    for name in ("instruct/one", "instruct/one", "instruct/two", "instruct/one"):
        assert models.get(name).name == name
    assert [run.name for run in loads] == ["one", "two", "one"]
    with pytest.raises(UserError, match=r"run='../x': not one of the page's runs"):
        models.get("../x")


def test_the_tiny_model_answers_with_media_and_records(outputs, session):
    models = Models(find_models(outputs), pocket_captions())
    settings = Settings("instruct/one", ["image", "video", "audio"], max_new_tokens=8, recorded=True)
    session.ask("Draw!", [])
    *_, loaded = reply(session, models, Limits(), settings)
    endings = [Path(item["path"]).suffix for item in session.shown[-1]["content"] if "path" in item]
    assert endings == [MODALITIES[m].sample_suffix for m in (Modality.IMAGE, Modality.VIDEO, Modality.AUDIO)]
    spans = [record for record in session.records if isinstance(record, SpanRecord)]
    assert [span.modality for span in spans] == list(settings.modalities)
    assert any(isinstance(record, TokenRecord) and record.choice for record in session.records)
    for span in spans:
        found = loaded.nearest(span.modality, span.embedding)
        assert len(found) == 5
        assert all(-1 <= similarity <= 1 for _, similarity in found)
