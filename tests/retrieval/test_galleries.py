"""Galleries: built in parts, resumed, verified when they are opened; their media stay in their folder."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from galleries import PRODUCER, Hashed, builder, pairs
from PIL import Image

from nextgpt_pl.errors import UserError
from nextgpt_pl.media.reading import array_of
from nextgpt_pl.modality import Modality
from nextgpt_pl.retrieval import Gallery, build
from nextgpt_pl.retrieval.manifest import FILES
from nextgpt_pl.samples import CaptionedPair, Media, TextPart

pytest.importorskip("faiss")
IMAGE = Modality.IMAGE


def _opened(folder, **options):
    return Gallery.open(folder, IMAGE, PRODUCER, **options)


def _files(folder, count, name="f"):
    """Items with image files, each of another colour."""
    folder.mkdir(exist_ok=True)
    items = []
    for i in range(count):
        path = folder / f"{name}{i}.png"
        Image.new("RGB", (4, 4), (i, 2 * i, 7)).save(path)
        items.append(CaptionedPair(f"set/{i}", IMAGE, f"{name} number {i}", Media(IMAGE, path)))
    return items


@pytest.fixture
def chunks(monkeypatch):
    """Parts of four items."""
    monkeypatch.setattr(build, "_CHUNK", 4)


@pytest.mark.usefixtures("chunks")
def test_each_caption_finds_its_own_item_and_medium(tmp_path):
    items, embed = _files(tmp_path / "data", 11), Hashed()
    manifest = builder(tmp_path / "gallery", embed).build(items, _files(tmp_path / "data", 5, "other"))
    assert (manifest.count, manifest.skipped, manifest.held_out) == (11, 0, 5)
    assert 0 < manifest.quantiles["0.05"] <= manifest.quantiles["0.95"]
    gallery = _opened(tmp_path / "gallery")
    for item in items:
        first, second, *_ = gallery.nearest(embed([item.caption])[0], 4, embed)
        assert (first.record.key, first.record.caption) == (item.key, item.caption)
        assert first.distance < 1e-5 < second.distance
        medium = gallery.medium(first.record)
        assert medium.source.is_relative_to(tmp_path / "gallery")
        np.testing.assert_array_equal(array_of(medium)[0], array_of(item.media)[0])
    assert not (tmp_path / "gallery" / "parts").exists()


@pytest.mark.usefixtures("chunks")
def test_an_interrupted_build_goes_on_behind_its_last_part(tmp_path):
    items, folder = _files(tmp_path / "data", 11), tmp_path / "gallery"
    with pytest.raises(KeyboardInterrupt):
        builder(folder, Hashed(fails_after=11 + 4 + 2)).build(items, [])  # the sample, one part, half a part
    with pytest.raises(UserError, match="no complete gallery"):
        _opened(folder)
    again = Hashed()
    builder(folder, again).build(items, [])
    # the projection and the first part are kept
    assert [c for c in again.seen if c.startswith("f ")] == [item.caption for item in items[4:]]
    whole = Hashed()
    builder(tmp_path / "whole", whole).build(items, [])
    for name in FILES:
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    complete = Hashed()
    assert builder(folder, complete).build(items, []).count == 11
    assert complete.seen == []


def test_broken_media_are_left_out_and_listed_and_equal_media_are_one_file(tmp_path):
    items, folder = _files(tmp_path / "data", 6), tmp_path / "gallery"
    items[1].media.source.write_bytes(b"no image")
    items[2].media.source.unlink()
    items.append(replace(items[0], key="set/again", caption="f again"))
    items.append(TextPart("something else"))
    items.append(replace(pairs("audio", 1)[0], key="a sound"))
    manifest = builder(folder, Hashed()).build(items, [])
    assert (manifest.count, manifest.skipped) == (5, 2)
    listed = (folder / "skipped.txt").read_text().splitlines()
    assert [line.split(":")[0] for line in listed] == ["set/1", "set/2"]
    kept = [path for path in (folder / "media").rglob("*") if path.is_file()]
    assert len(kept) == 4
    assert all(path.stat().st_nlink == 2 for path in kept)  # links to the files of the data set


def test_other_data_modalities_and_text_encoders_are_refused(tmp_path):
    items = _files(tmp_path / "data", 4)
    builder(tmp_path / "gallery", Hashed(), {"files": "a"}).build(items, [])
    with pytest.raises(UserError, match="made of another data; give another folder"):
        builder(tmp_path / "gallery", Hashed(), {"files": "b"}).build(items, [])
    with pytest.raises(UserError, match="modality image, expected video"):
        Gallery.open(tmp_path / "gallery", Modality.VIDEO, PRODUCER)
    with pytest.raises(
        UserError, match=r"another text encoder, which differs in text_encoder \(.*None there, abc here"
    ):
        Gallery.open(tmp_path / "gallery", IMAGE, {**PRODUCER, "text_encoder": "abc"})
    assert len(Gallery.open(tmp_path / "gallery", IMAGE, {**PRODUCER, "compute_dtype": "bfloat16"})) == 4
    with pytest.raises(UserError, match="the data have no image with a caption"):
        builder(tmp_path / "empty", Hashed()).build(pairs("audio", 3), [])
    for item in items:
        item.media.source.write_bytes(b"broken")
    with pytest.raises(UserError, match="none of the image media can be read"):
        builder(tmp_path / "broken", Hashed()).build(items, [])


@pytest.mark.parametrize("name", FILES)
def test_damaged_and_missing_files_are_refused_by_name(tmp_path, name):
    folder = tmp_path / "gallery"
    builder(folder, Hashed()).build(_files(tmp_path / "data", 4), [])
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 255
    (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name}: damaged"):
        _opened(folder)
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"its file {name} is missing"):
        _opened(folder)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"modality": "image"}', "null"])
def test_a_manifest_that_is_none_is_refused(tmp_path, text):
    builder(tmp_path, Hashed()).build(_files(tmp_path / "data", 4), [])
    whole = json.loads((tmp_path / "manifest.json").read_text())
    for content in (text, json.dumps({**whole, "modality": "smell"}), json.dumps({**whole, "version": 99})):
        (tmp_path / "manifest.json").write_text(content)
        with pytest.raises(UserError, match=r"manifest\.json: (not a manifest|version 99 is not 1)"):
            _opened(tmp_path)


def test_names_of_media_that_leave_the_folder_and_files_that_have_changed_are_refused(tmp_path):
    folder, embed = tmp_path / "gallery", Hashed()
    builder(folder, embed).build(pairs(count=3), [])
    gallery = _opened(folder)
    record = gallery.nearest(torch.zeros(32), 1, embed)[0].record
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.png")
    (folder / "media" / "link.png").symlink_to(tmp_path / "secret.png")
    for name in ("../secret.png", str(tmp_path / "secret.png"), "media/link.png"):
        with pytest.raises(UserError, match="leaves its folder"):
            gallery.medium(replace(record, media=name))
    Path(folder / record.media).write_bytes(b"another file")
    with pytest.raises(UserError, match="has changed since it was indexed"):
        gallery.medium(record)
    with pytest.raises(UserError, match="numbers that are not finite"):
        gallery.nearest(torch.full((32,), float("nan")), 1, embed)
