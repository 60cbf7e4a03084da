import json

import numpy as np
import pytest
from stand_ins import Means

from nextgpt_pl.errors import UserError
from nextgpt_pl.evaluation import (
    Captioning,
    CaptionManifest,
    Frechet,
    Generating,
    Similarity,
    VqaAccuracy,
    records,
    report,
    run,
)
from nextgpt_pl.media.reading import array_of
from nextgpt_pl.media.writing import save_image
from nextgpt_pl.samples import ReplyPart


class _Captions:
    """Stands for a model that reads the question's pictures."""

    def __init__(self):
        self.asked = []

    def batch(self, conversations, *, seeds, modalities, **options):
        media = [part["image"] for messages in conversations for part in messages[-1]["content"] if "image" in part]
        for medium in media:
            array_of(medium)
        self.asked.append(len(conversations))
        if not modalities:
            return [[ReplyPart("text", text="a red circle")] for _ in seeds]
        return [[ReplyPart("image", array=np.full((8, 8, 3), seed % 200, np.uint8))] for seed in seeds]


def test_items_whose_files_cannot_be_read_are_counted_and_the_others_scored(tmp_path):
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    out.mkdir()
    for number in range(30):
        save_image(np.full((8, 8, 3), 8 * number, np.uint8), data / f"{number}.png")
    cut = (data / "3.png").read_bytes()
    (data / "3.png").write_bytes(cut[:40])
    (data / "27.png").unlink()
    lines = [json.dumps({"file": f"{n}.png", "captions": ["a red circle", f"picture {n}"]}) for n in range(30)]
    (data / "captions.jsonl").write_text("\n".join(lines))
    layout = CaptionManifest(data, "image")
    tell = Captioning("tell", layout, [VqaAccuracy()], "What is it?")
    make = Generating(
        "make", layout, [Frechet(Means(), "FID"), Similarity(Means(), "CLIP-I", to="medium")], "{caption}"
    )
    model = _Captions()
    run.predict(model, [tell, make], out, temperature=0.0, seed=0)
    assert model.asked == [24, 4, 24, 4]
    record = run.score([tell, make], out)["tasks"]
    for name in ("tell", "make"):
        assert record[name]["items"] == 28
        assert set(record[name]["skipped"]) == {"3.png", "27.png"}
        assert "3.png: not a readable image" in record[name]["skipped"]["3.png"]
        assert "27.png: no such file" in record[name]["skipped"]["27.png"]
        assert record[name]["failed"] == {}
    assert record["tell"]["scores"]["accuracy"]["count"] == 28
    rows = report.rows({"tasks": record})
    assert [row[:3] for row in rows if row[1] == "items skipped"] == [
        ("tell", "items skipped", "2"),
        ("make", "items skipped", "2"),
    ]
    report.write({"tasks": record}, {}, out)
    # taken up again, nothing is written twice; a file that was mended is asked about
    size = (out / records.FILE).stat().st_size
    run.predict(model, [tell, make], out, temperature=0.0, seed=0)
    assert (out / records.FILE).stat().st_size == size
    (data / "3.png").write_bytes(cut)
    run.predict(model, [tell, make], out, temperature=0.0, seed=0)
    record = run.score([tell, make], out)["tasks"]
    assert {name: (result["items"], len(result["skipped"])) for name, result in record.items()} == {
        "tell": (29, 1),
        "make": (29, 1),
    }


def test_what_is_no_items_fault_still_stops(tmp_path):
    class Refusing:
        def batch(self, conversations, **options):
            raise UserError("no encoder reads image")

    save_image(np.zeros((8, 8, 3), np.uint8), tmp_path / "0.png")
    (tmp_path / "captions.jsonl").write_text(json.dumps({"file": "0.png", "captions": "x"}))
    task = Captioning("tell", CaptionManifest(tmp_path, "image"), [VqaAccuracy()], "What is it?")
    with pytest.raises(UserError, match="no encoder reads image"):
        run.predict(Refusing(), [task], tmp_path, temperature=0.0, seed=0)


def test_an_item_with_half_of_a_character_costs_the_others_nothing(tmp_path):
    for number in range(3):
        save_image(np.full((8, 8, 3), 8 * number, np.uint8), tmp_path / f"{number}.png")
    lines = [{"file": f"{n}.png", "captions": ["a red circle" + "\ud83d" * (n == 1)]} for n in range(3)]
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    layout = CaptionManifest(tmp_path, "image")
    tasks = [
        Captioning("tell", layout, [VqaAccuracy()], "What is it?"),
        Generating("make", layout, [Frechet(Means(), "FID")], "{caption}"),
    ]
    run.predict(_Captions(), tasks, tmp_path, temperature=0.0, seed=0)
    for record in run.score(tasks, tmp_path)["tasks"].values():
        assert record["items"] == 2
        assert "half of a character" in record["skipped"]["1.png"]
