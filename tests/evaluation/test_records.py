import json

import pytest

from nextgpt_pl.errors import UserError
from nextgpt_pl.evaluation import records

TEXT = {"type": "text", "text": "hello"}
WHOLE = {"task": "t", "key": "1", "prompt": [TEXT], "reply": [TEXT, {"type": "image", "file": "media/1.png"}]}


def _write(folder, *lines):
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (folder / records.FILE).write_text(text + "\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"reply": [{"type": "text"}]}, "its part has no text"),
        ({"reply": [{"type": "image"}]}, "its part has no file"),
        ({"reply": [{"type": "smell", "file": "x"}]}, "a part of text or a medium is expected"),
        ({"reply": ["hello"]}, "a part of text or a medium is expected, got 'hello'"),
        ({"reply": None}, "reply: a list is expected"),
        ({"reference": {"type": "image", "file": 3}}, "its part has no file"),
        ({"reply": [{"type": "image", "file": "../secret.png"}]}, "its file leaves its folder: '../secret.png'"),
        ({"reply": [{"type": "image", "file": "/etc/passwd"}]}, "its file leaves its folder: '/etc/passwd'"),
        ({"reference": {"type": "image", "file": "a/../../b.png"}}, "its file leaves its folder"),
        ({"references": [1]}, "references: texts are expected"),
        ({"expected": [["image"]]}, "expected: pairs"),
        ({"strange": 1}, "strange"),
    ],
)
def test_malformed_predictions_failed(changes, named, tmp_path):
    _write(tmp_path, WHOLE, {**WHOLE, "key": "2", **changes}, {**WHOLE, "key": "3"})
    first, second, third = records.read(tmp_path)
    assert (first.failed, third.failed) == (None, None)
    assert second.failed.startswith("predictions.jsonl, line 2: ")
    assert named in second.failed


@pytest.mark.parametrize("line", ["[]", "{}", "9" * 5000, "[" * 100_000, '{"task": "t"}'])
def test_a_line_without_task_and_item_is_named(line, tmp_path):
    _write(tmp_path, line, WHOLE)
    with pytest.raises(UserError, match="line 1 is no prediction"):
        records.read(tmp_path)
