import pytest

from nextgpt_pl.utils.atomic import drop_truncated_line


@pytest.mark.parametrize(
    ("content", "left"),
    [
        (b"", b""),
        (b"a\nb\n", b"a\nb\n"),
        (b"a\nb", b"a\n"),
        (b"begun", b""),
        (b"a\n" + b"b" * 200_000, b"a\n"),
        (b"a" * 200_000 + b"\nb\n", b"a" * 200_000 + b"\nb\n"),
    ],
    ids=["empty", "complete", "truncated", "no line", "a long truncated line", "a long line"],
)
def test_only_a_truncated_last_line_is_removed(content, left, tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_bytes(content)
    drop_truncated_line(file)
    assert file.read_bytes() == left


def test_a_missing_file_is_left_missing(tmp_path):
    drop_truncated_line(tmp_path / "none.jsonl")
    assert not (tmp_path / "none.jsonl").exists()
