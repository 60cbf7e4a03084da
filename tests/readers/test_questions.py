import json

import published
import published_captions
import pytest
from published_captions import QUESTIONS

from nextgpt_pl.datamodules import DataFiles
from nextgpt_pl.errors import UserError
from nextgpt_pl.samples import MediaPart, TextPart


def _source(folder, written, **options):
    return DataFiles(folder, written.files, **{**written.options, **options})


def _exchange(dialogue):
    """Media, question and answer of a dialogue."""
    asked, answered = dialogue.messages
    media = [str(part.media.source) for part in asked.parts if isinstance(part, MediaPart)]
    (question,) = [part.text for part in asked.parts if isinstance(part, TextPart)]
    return media, (question, answered.parts[0].text)


@pytest.mark.parametrize("name", QUESTIONS)
def test_questions_of_a_published_set(tmp_path, name):
    written = QUESTIONS[name](tmp_path)
    found = [_exchange(dialogue) for dialogue in _source(tmp_path, written).read("train")]
    assert found == [([str(tmp_path / m)], text) for m, text in zip(written.media, written.texts, strict=True)]


def test_the_accepted_answers_are_kept_for_evaluation(tmp_path):
    source = _source(tmp_path, published_captions.vqav2(tmp_path))
    (file,) = source.row_files()
    records = [record for row in source.rows(file) for record in source.records(file, row)]
    assert [record.answers for record in records] == [("red", "blue", "red"), ("2", "2", "3")]
    assert [record.identity for record in records] == ["90", "250"]


def test_questions_without_answers_are_refused_in_training(tmp_path):
    source = _source(tmp_path, published_captions.vqav2_test(tmp_path))
    with pytest.raises(UserError, match=r"row 0: no turn of the assistant: .*; a test set without answers is for test"):
        source.read("train")
    (file,) = source.row_files()
    records = [record for row in source.rows(file) for record in source.records(file, row)]
    assert [(record.text, record.answers) for record in records] == [("What color?", ()), ("How many?", ())]


@pytest.mark.parametrize("name", ["msrvtt_qa", "msvd_qa"])
def test_unknown_keys_are_refused_unless_they_are_ignored(tmp_path, name):
    written = QUESTIONS[name](tmp_path)
    path = tmp_path / written.files[0]
    path.write_text(json.dumps([{**row, "anser": "x"} for row in json.loads(path.read_text())]))
    with pytest.raises(UserError, match="row 0: key 'anser' would not be read; did you mean 'answer'"):
        _source(tmp_path, written).read("train")
    assert len(_source(tmp_path, written, ignore=["anser"]).read("train")) == 1


def _changed(folder, change):
    path = folder / "annotations.json"
    content = json.loads(path.read_text())
    change(content["annotations"])
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.append(rows[0]), "annotations.json, row 2: another row has question_id=90 too"),
        (lambda rows: rows[1].pop("question_id"), "annotations.json, row 1: no 'question_id'"),
        (lambda rows: rows[1].update(image_id=3), "question_id=250: image_id=25, but annotations.json has 3"),
        (lambda rows: rows[1].update(answers=[None]), "row 1: answer=None: a text is expected"),
        (lambda rows: rows.pop(), "row 1: no turn of the assistant"),
        (lambda rows: rows[1].update(answers=[{"answer": " "}]), "row 1: every answer is empty: there is nothing to"),
    ],
)
def test_contradictions_of_joined_files_are_named(tmp_path, change, message):
    written = published_captions.vqav2(tmp_path)
    _changed(tmp_path, change)
    with pytest.raises(UserError, match=message):
        _source(tmp_path, written).read("train")


def test_answers_to_no_question_are_counted(tmp_path):
    written = published_captions.vqav2(tmp_path)
    _changed(tmp_path, lambda rows: rows.append({"question_id": 7, "image_id": 9, "answers": []}))
    source = _source(tmp_path, written)
    assert len(source.read("train")) == 2
    assert source.report.notes == ["1 rows are left out: rows of annotations.json whose question_id no other row has"]


def test_joined_files_need_a_single_file_of_rows(tmp_path):
    written = published_captions.vqav2(tmp_path)
    published.in_json(tmp_path, "more.json", [])
    with pytest.raises(UserError, match="joins: with it, files names one file, but these are 2"):
        _source(tmp_path, published.Written([*written.files, "more.json"], [], [], written.options)).read("train")


def test_a_changed_joined_file_is_read_again(tmp_path, monkeypatch):
    from nextgpt_pl.datamodules import indexed_items

    monkeypatch.setattr(indexed_items, "_MEMORY", 0)
    written = published_captions.vqav2(tmp_path)
    answers = []
    for answer in ("red", "green"):
        _changed(tmp_path, lambda rows, a=answer: rows[0].update(answers=[{"answer": a}]))
        source = _source(tmp_path, written, index_folder=tmp_path / "rows")
        answers.append(_exchange(source.read("train")[0])[1][1])
    assert answers == ["red", "green"]


def test_a_text_question_has_no_medium(tmp_path):
    published.in_lines(
        tmp_path, "q.jsonl", [{"question": "2 + 2?", "answer": "4"}, {"question": "1 + 1?", "answer": 2}]
    )
    assert [_exchange(d) for d in DataFiles(tmp_path, ["q.jsonl"]).read("train")] == [
        ([], ("2 + 2?", "4")),
        ([], ("1 + 1?", "2")),
    ]
