import io

import numpy as np
import pytest

from nextgpt_pl.errors import UserError
from nextgpt_pl.pipeline import AnyToAny
from nextgpt_pl.samples import ReplyPart
from nextgpt_pl.verbs import talking


class _Model:
    """Stands for a trained run: remembers what it is asked, answers with text and a picture."""

    def __init__(self):
        self.asked = []

    def within_context(self, messages, max_new_tokens):
        """As if the context held two exchanges."""
        return messages[-4:] if len(messages) % 2 == 0 else messages[-3:]

    def stream(self, messages, **options):
        self.asked.append((list(messages), options))
        yield ReplyPart("text", text=f"reply {len(messages)}")
        yield ReplyPart("image", array=np.zeros((8, 8, 3), np.uint8))


@pytest.fixture
def model(monkeypatch):
    found = _Model()
    monkeypatch.setattr(AnyToAny, "from_run", lambda _run, **_: found)
    return found


def test_words_that_name_media_files_become_media(tmp_path):
    (tmp_path / "my cat.png").write_bytes(b"x")
    parts = talking.content_of(f'look at "{tmp_path}/my cat.png" please')
    cat = {"type": "image", "image": str(tmp_path / "my cat.png")}
    assert parts == [cat, {"type": "text", "text": "look at please"}]
    parts = talking.content_of(f'is "{tmp_path}/my cat.png" like "{tmp_path}/my cat.png"?')
    assert [p["type"] for p in parts] == ["text", "image", "text", "image"]
    assert parts[1] == parts[3] == cat
    assert talking.content_of(f"'{tmp_path}/my cat.png'") == [cat]
    assert talking.content_of("what's that?") == [{"type": "text", "text": "what's that?"}]
    with pytest.raises(UserError, match=r"no such file: no\.wav"):
        talking.content_of("play no.wav")
    with pytest.raises(UserError, match=r"no such file: nnn"):
        talking.content_of("n" * 300 + ".aac")


def test_a_chat_keeps_its_turns_and_saves_media(model, tmp_path, monkeypatch, capsys):
    lines = iter(["hello", "see no.png", "again", "/new", "fresh", "/quit"])
    monkeypatch.setattr("builtins.input", lambda _: next(lines))
    talking.chat(tmp_path, out=tmp_path / "out", seed=5)
    assert [len(messages) for messages, _ in model.asked] == [1, 3, 1]
    assert [options["seed"] for _, options in model.asked] == [5, 6, 7]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [f"image_00{i}.png" for i in (1, 2, 3)]
    printed = capsys.readouterr().out
    assert "reply 3" in printed
    assert "error: no such file: no.png" in printed


def test_a_chat_outlives_blank_lines_and_bytes_that_are_no_text(model, tmp_path, monkeypatch):
    typed = b"\n" * 2000 + b"caf\xe9\n" + b"again\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(typed), encoding="utf-8"))
    talking.chat(tmp_path, out=tmp_path / "out")
    assert [messages[-1]["content"][0]["text"] for messages, _ in model.asked] == ["caf\ufffd", "again"]


def test_text_is_printed_as_it_comes_and_ctrl_c_ends_a_reply_only(model, tmp_path, monkeypatch, capsys):
    seen = []

    def stream(messages, **_):
        for piece in ("It", " is", " a ring."):
            yield ReplyPart("text", text=piece)
            seen.append(capsys.readouterr().out)
            if len(seen) == 2:
                raise KeyboardInterrupt
        yield ReplyPart("image", array=np.zeros((8, 8, 3), np.uint8))
        asked.append(messages)

    asked = []
    monkeypatch.setattr(model, "stream", stream)
    lines = iter(["one", "two", "three", "/quit"])
    monkeypatch.setattr("builtins.input", lambda _: next(lines))
    talking.chat(tmp_path, out=tmp_path / "out")
    assert [text.splitlines()[-1] for text in seen[:2]] == ["model: It", " is"]
    assert "stopped" in seen[2]
    assert [len(messages) for messages in asked] == [1, 3]
    # what is kept of a reply has whole texts
    assert [(p.type, p.text) for p in asked[1][1]["content"]] == [("text", "It is a ring."), ("image", None)]
    assert capsys.readouterr().out == f"\n{tmp_path}/out/image_002.png\n"


def test_a_chat_that_grows_too_long_says_what_is_left_out_and_goes_on_without_it(model, tmp_path, monkeypatch, capsys):
    lines = iter(["one", "two", "three", "four", "/quit"])
    monkeypatch.setattr("builtins.input", lambda _: next(lines))
    talking.chat(tmp_path, out=tmp_path / "out")
    assert [len(messages) for messages, _ in model.asked] == [1, 3, 3, 3]
    assert model.asked[-1][0][0]["content"] == [{"type": "text", "text": "three"}]
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note:")]
    assert notes == ["note: the conversation is longer than the LLM's context; its 2 oldest messages are left out"] * 2


def test_generate_writes_reply_and_media(model, tmp_path, capsys):
    (tmp_path / "a.wav").write_bytes(b"x")
    out = tmp_path / "out"
    argv = ["generate", "--run", str(tmp_path), "--prompt", "Draw it.", "--out", str(out)]
    assert talking.main([*argv, "--audio", str(tmp_path / "a.wav"), "--modalities", "image"]) == 0
    ((messages, options),) = model.asked
    assert [p["type"] for p in messages[0]["content"]] == ["audio", "text"]
    assert options["modalities"] == ["image"]
    assert (out / "reply.txt").read_text() == "reply 1\nimage_001.png\n"
    assert (out / "image_001.png").is_file()
