import json

from nextgpt_pl.batches import RowNote
from nextgpt_pl.datamodules.row_notes import FILE, RowNotes, listed


def _note(number, split="train", kind="skipped"):
    return RowNote(split, kind, f"row {number}", f"row {number}: broken\u2028 in two lines")


def test_each_row_is_told_once_however_often_it_is_drawn():
    notes = RowNotes()
    notes.take([_note(1), _note(1), _note(2, kind="shortened")])
    assert notes.exchange() == [_note(1), _note(2, kind="shortened")]
    notes.take([_note(1), _note(3), _note(1, "val")])
    assert notes.exchange() == [_note(3), _note(1, "val")]
    assert notes.exchange() == []
    assert notes.counts() == {("train", "skipped"): 2, ("train", "shortened"): 1, ("val", "skipped"): 1}


def test_a_resumed_run_keeps_what_it_had_found(tmp_path):
    for numbers in ((1, 2), (2, 3)):
        notes = RowNotes()
        notes.take([_note(number) for number in numbers])
        notes.exchange()
        notes.write(tmp_path)
    lines = (tmp_path / FILE).read_text(encoding="utf-8").strip().split("\n")
    assert [json.loads(line)["key"] for line in lines] == ["row 1", "row 2", "row 3"]
    RowNotes().write(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_damaged_lines_of_a_resumed_run_are_left_out(tmp_path):
    notes = RowNotes()
    notes.take([_note(1)])
    notes.exchange()
    notes.write(tmp_path)
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(b'[1]\n{"split": "train"}\n\xff\x00\n' + whole + b'{"split": "tr')
    notes.write(tmp_path)
    assert (tmp_path / FILE).read_bytes() == whole


def test_long_lists_are_cut():
    lines = listed([_note(i) for i in range(25)])
    assert (lines[0], lines[-1], len(lines)) == ("25 more rows skipped:", "  and 5 more", 22)
