import json

import pytest

from nextgpt_pl.errors import UserError
from nextgpt_pl.evaluation import AudioCaps, CaptionManifest, CocoCaptions, MsrVtt


def test_coco_reads_images_of_the_wanted_ids(tmp_path):
    (tmp_path / "annotations").mkdir()
    data = {
        "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "b.jpg"}, {"id": 11, "file_name": "c.jpg"}],
        "annotations": [
            {"image_id": 7, "caption": " A cat. "},
            {"image_id": 9, "caption": "x"},
            {"image_id": 7, "caption": "Cat"},
        ],
    }
    (tmp_path / "annotations" / "captions_val2014.json").write_text(json.dumps(data))
    (tmp_path / "ids.txt").write_text("7\n11\n")
    layout = CocoCaptions(tmp_path, ids="ids.txt")
    assert [(e.key, e.file, e.captions) for e in layout.entries()] == [("7", "val2014/a.jpg", ("A cat.", "Cat"))]
    assert layout.missing() == [str(tmp_path / "val2014")]


def test_msrvtt_reads_the_split(tmp_path):
    data = {
        "videos": [{"video_id": "video1", "split": "test"}, {"video_id": "video2", "split": "train"}],
        "sentences": [{"video_id": v, "caption": f"about {v}"} for v in ("video1", "video2", "video1")],
    }
    (tmp_path / "test_videodatainfo.json").write_text(json.dumps(data))
    (entry,) = MsrVtt(tmp_path).entries()
    assert (entry.file, entry.captions) == ("TestVideo/video1.mp4", ("about video1", "about video1"))


def test_audiocaps_gathers_the_captions_of_a_clip(tmp_path):
    rows = ["audiocap_id,youtube_id,start_time,caption", '1,abc,30,"A dog, barking"', "2,xyz,0,Rain", "3,abc,30,Barks"]
    (tmp_path / "test.csv").write_text("\n".join(rows))
    found = [(e.file, e.captions) for e in AudioCaps(tmp_path, name="{youtube_id}_{start_time}.wav").entries()]
    assert found == [("test/abc_30.wav", ("A dog, barking", "Barks")), ("test/xyz_0.wav", ("Rain",))]


def test_a_manifest_names_the_broken_line(tmp_path):
    (tmp_path / "captions.jsonl").write_text('{"file": "a.png", "captions": "one"}\n{"file": "b.png"}\n')
    with pytest.raises(UserError, match="row 2 has no 'captions'"):
        list(CaptionManifest(tmp_path, "image").entries())
    with pytest.raises(UserError, match="modality='smell'"):
        CaptionManifest(tmp_path, "smell")
