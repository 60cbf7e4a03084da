import json

import numpy as np
import pytest
import soundfile
from PIL import Image

from nextgpt_pl.building.journal import DialogueRecord, Journal, ReplyRecord, records
from nextgpt_pl.building.media import Found
from nextgpt_pl.building.plans import Plan
from nextgpt_pl.building.rows import FILE, media_of, scratch_folder, user_text, write_row, write_rows
from nextgpt_pl.datamodules import OfficialDialogues
from nextgpt_pl.media.reading import array_of
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import Media, MediaPart, Message, TextPart

IMAGE, AUDIO = Modality.IMAGE, Modality.AUDIO
PLAN = Plan(3, "../../etc", (IMAGE, AUDIO), 2, "", "")
MESSAGES = (
    Message("user", (MediaPart(IMAGE, caption="one"), TextPart("And"), MediaPart(AUDIO, caption="two"), TextPart("?"))),
    Message("assistant", (TextPart("This."), MediaPart(AUDIO, caption="three"), MediaPart(IMAGE, caption="four"))),
    Message("user", (TextPart("More."), MediaPart(IMAGE, caption="five"))),
    Message("assistant", (MediaPart(AUDIO, caption="six"), TextPart("Done."))),
)


def found_for(part, index, folder):
    if part.modality is IMAGE and index:
        return Found(Media(IMAGE, lambda: np.full((4, 4, 3), index, np.uint8)), part.caption, "drawn", 1)
    if part.modality is IMAGE:
        Image.new("RGB", (4, 4), (index, 0, 0)).save(folder / "Source.PNG")
        return Found(Media(IMAGE, folder / "Source.PNG"), "its own caption", "retrieved", 1)
    samples = np.full(160, index / 100, np.float32)
    return Found(Media(AUDIO, lambda: samples, 16_000), part.caption, "drawn", 1)


@pytest.fixture
def row(tmp_path):
    (tmp_path / "out").mkdir()
    found = [found_for(part, i, tmp_path) for i, (_, part) in enumerate(media_of(MESSAGES))]
    with scratch_folder(tmp_path / "out"):
        return write_row(PLAN, MESSAGES, found, tmp_path / "out")


def test_a_row_is_read_as_the_dialogue_that_was_written(row, tmp_path):
    (tmp_path / "out" / FILE).write_text(json.dumps([row]))
    (dialogue,) = OfficialDialogues(tmp_path / "out", [FILE]).read("train")
    assert [m.role for m in dialogue.messages] == ["user", "assistant"] * 2
    index = 0
    for message, expected in zip(dialogue.messages, MESSAGES, strict=True):
        kept = [p for p in message.parts if isinstance(p, MediaPart) or p.text.strip()]
        for part, wanted in zip(kept, expected.parts, strict=True):
            if isinstance(wanted, TextPart):
                assert part.text.strip() == wanted.text
                continue
            assert part.modality is wanted.modality
            assert part.caption == (wanted.caption if message.role == "assistant" else None)
            assert part.media.source.name.startswith(f"000003_{index}.")
            array, _ = array_of(part.media)
            assert array.flat[0] == pytest.approx(index / 100 if part.modality is AUDIO else index, abs=1e-3)
            index += 1
    assert index == 6


def test_names_of_files_come_from_numbers_only(row, tmp_path):
    assert row["input_image"] == ["000003_0.png", "000003_4.png"]
    assert row["output_audio"] == ["000003_2.wav", "000003_5.wav"]
    assert row["image_captions"] == ["four"]
    assert row["audio_captions"] == ["three", "six"]
    files = {str(f.relative_to(tmp_path / "out")) for f in (tmp_path / "out").rglob("*") if f.is_file()}
    assert files == {f"images/000003_{i}.png" for i in (0, 3, 4)} | {f"audios/000003_{i}.wav" for i in (1, 2, 5)}
    assert user_text(row["conversations"]) == "<image> And <audio> ?\nMore. <image>"


def test_of_a_clip_only_its_part_of_the_file_is_written(tmp_path):
    soundfile.write(tmp_path / "long.wav", np.linspace(0, 0.9, 16_000, dtype=np.float32), 16_000)
    medium = Media(AUDIO, tmp_path / "long.wav", start=0.25, end=0.75)
    messages = (Message("user", (MediaPart(AUDIO, caption="a slope"),)), Message("assistant", (TextPart("Yes."),)))
    with scratch_folder(tmp_path):
        row = write_row(PLAN, messages, [Found(medium, "a slope", "retrieved", 1)], tmp_path)
    written, rate = array_of(Media(AUDIO, tmp_path / "audios" / row["input_audio"][0]))
    assert (len(written), rate) == (8000, 16_000)
    assert written[0] == pytest.approx(0.225, abs=1e-3)


def test_the_json_has_the_rows_of_the_journal_in_order(tmp_path):
    journal = Journal(tmp_path)
    texts = ["a\u2028b", 'quotes " and \\', "ünïcödé"]
    written = [
        ReplyRecord(0, 1, 2, rejected="invalid JSON", detail=texts[0]),
        ReplyRecord(0, 1, 2, messages=[{"role": "user", "content": []}]),
        DialogueRecord(0, {"id": 0, "text": texts[0]}),
        DialogueRecord(1, dropped="near-duplicate", detail="x"),
        *(DialogueRecord(n, {"id": n, "text": text}) for n, text in enumerate(texts[1:], 2)),
    ]
    for record in written:
        journal.add(record)
    journal.close()
    assert list(records(tmp_path)) == written
    assert [r["id"] for r in json.loads(write_rows(tmp_path).read_text(encoding="utf-8"))] == [0, 2, 3]
    (tmp_path / "empty").mkdir()
    assert json.loads(write_rows(tmp_path / "empty").read_text()) == []
