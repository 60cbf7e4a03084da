"""Tar samples and Parquet rows that hold media and caption embeddings: the layouts ``pairs`` and ``messages``."""

import io
import json
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from published_turns import png

from nextgpt_pl.datamodules.data_files import DataFiles
from nextgpt_pl.datamodules.rows import load_embedding
from nextgpt_pl.errors import UserError
from nextgpt_pl.media.reading import array_of
from nextgpt_pl.samples import StoredMedia


def npy(*values):
    buffer = io.BytesIO()
    np.save(buffer, np.array(values, np.float32))
    return buffer.getvalue()


def in_tar(folder, **members):
    """A shard of one sample; members that are no bytes are JSON."""
    with tarfile.open(folder / "0.tar", "w") as archive:
        for ending, content in members.items():
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            info = tarfile.TarInfo(f"a/000.{ending}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return DataFiles(folder, ["0.tar"])


def image_of(part):
    return array_of(part.media)[0][0, 0].tolist()


def test_a_pair_of_a_tar_sample_keeps_its_captions_texts_and_embedding(tmp_path):
    row = {"modality": "depth", "captions": [" A hall.\n"], "question": "What is it?", "description": "A hall."}
    depth = np.ones((2, 3), np.float32)
    content = io.BytesIO()
    np.save(content, depth)
    members = {"depth.npy": content.getvalue(), "embedding.npy": npy(1, 2), "json": row, "txt": b"A hall."}
    (pair,) = in_tar(tmp_path, **members).read("train")
    assert (pair.caption, pair.question, pair.description) == (" A hall.\n", "What is it?", "A hall.")
    assert np.array_equal(array_of(pair.media)[0], depth)
    assert isinstance(pair.caption_embedding, StoredMedia)
    assert load_embedding(pair.caption_embedding).tolist() == [1, 2]


def test_parts_name_members_also_twice_and_bring_their_captions_and_embeddings(tmp_path):
    made = {"type": "image", "caption": "Blue.", "caption_embedding": "000.1.embedding.npy"}
    user = [{"type": "image", "image": "000.1.png"}, {"type": "image", "image": "000.0.png"}]
    row = {
        "split": "train",
        "messages": [
            {"role": "user", "content": [*user, {"type": "text", "text": "Draw."}]},
            {"role": "assistant", "content": [made, {"type": "image", "image": "000.0.png", "caption": "Red."}]},
            {"role": "assistant", "content": [{"type": "image", "caption": "Green."}]},
        ],
    }
    members = {"0.png": png(200), "1.png": png(90), "1.embedding.npy": npy(3)}
    (talk,) = in_tar(tmp_path, **members, json=row).read("train")
    first, second, _ = talk.messages[0].parts
    assert [image_of(first), image_of(second)] == [[90] * 3, [200] * 3]
    blue, red, green = talk.messages[1].parts + talk.messages[2].parts
    assert blue.media is None
    assert load_embedding(blue.caption_embedding).tolist() == [3]
    assert (red.caption, image_of(red), red.caption_embedding) == ("Red.", [200] * 3, None)
    assert (green.caption, green.media) == ("Green.", None)

    del row["messages"][0]["content"][0], row["messages"][2]
    with pytest.raises(UserError, match=r"1 input and 0 output media have no placeholder"):
        in_tar(tmp_path, **members, json=row).read("train")


def test_parquet_rows_hold_media_embeddings_and_splits_that_may_be_empty(tmp_path):
    held = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [
        {"modality": "image", "captions": ["Red."], "image": {"bytes": png(200), "path": "r.png"}, "split": "val"},
        {"modality": "audio", "captions": ["A", "B"], "image": None, "split": None},
        {"modality": "image", "captions": ["Red."], "caption_embedding": {"bytes": npy(5), "path": "e"}},
    ]
    fields = [("modality", pa.string()), ("captions", pa.list_(pa.string())), ("split", pa.string())]
    schema = pa.schema([*fields, ("image", held), ("caption_embedding", held)])
    pq.write_table(pa.Table.from_pylist(rows, schema), tmp_path / "0.parquet")
    source = DataFiles(tmp_path, ["0.parquet"])
    assert [pair.caption for pair in source.read("val")] == ["Red.", "A", "B", "Red."]
    assert [pair.media is None for pair in source.read("val")] == [False, True, True, True]
    assert load_embedding(source.read("train")[-1].caption_embedding).tolist() == [5]


def test_clips_of_sounds_in_parts(tmp_path):
    talk = [
        {"role": "user", "content": [{"type": "audio", "audio": "a.wav", "start": 0.5, "end": 1}]},
        {"role": "assistant", "content": "Rain."},
    ]
    (tmp_path / "a.wav").write_bytes(b"x")
    (tmp_path / "t.jsonl").write_text(json.dumps({"messages": talk}) + "\n")
    (item,) = DataFiles(tmp_path, ["t.jsonl"]).read("train")
    assert (item.messages[0].parts[0].media.start, item.messages[0].parts[0].media.end) == (0.5, 1.0)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"modality": "imge"}, "modality='imge'; did you mean 'image'"),
        ({"captions": ["a", "b"]}, "2 captions and one caption embedding"),
        ({"start": 3}, "start and end are seconds of a video or sound, but the row has image"),
    ],
)
def test_a_broken_pair_is_named(tmp_path, row, reason):
    members = {"png": png(200), "embedding.npy": npy(1), "json": {"modality": "image", "captions": ["a"], **row}}
    with pytest.raises(UserError, match=rf"0.tar, row 0: {reason}"):
        in_tar(tmp_path, **members).read("train")
