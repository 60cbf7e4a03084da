import json

import numpy as np
import pytest
from PIL import Image

from nextgpt_pl.datamodules import CaptionedPairs, CaptionFolder, OfficialJSON, PocketDialogues, PocketWorld
from nextgpt_pl.datamodules.rows import load_embedding
from nextgpt_pl.dialogue.conversation import Conversation
from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import Modality


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "set" / "images").mkdir(parents=True)
    (tmp_path / "embed").mkdir()
    rows = []
    for index in range(3):
        Image.new("RGB", (8, 8)).save(tmp_path / "set" / "images" / f"{index}.png")
        np.save(tmp_path / "embed" / f"{index}.npy", np.zeros((77, 8), np.float16))
        rows.append(
            {
                "output_image": f"{index}.png",
                "image_captions": f"caption {index}",
                "image_caption_embeddings": f"{index}.npy",
                "conversations": [
                    {"from": "human", "value": f"show caption {index}"},
                    {"from": "gpt", "value": "Sure <image>"},
                ],
            }
        )
    (tmp_path / "set" / "x.json").write_text(json.dumps(rows))
    return tmp_path


def _rewrite(folder, index, **changes):
    file = folder / "set" / "x.json"
    rows = json.loads(file.read_text())
    rows[index].update(changes)
    rows[index] = {k: v for k, v in rows[index].items() if v is not None}
    file.write_text(json.dumps(rows))


def test_generation_rows(folder):
    reader = OfficialJSON(folder, ["set/x.json"])
    pair = reader.read("train")[1]
    assert (pair.caption, pair.instruction, pair.response) == ("caption 1", "show caption 1", "Sure <image>")
    assert load_embedding(pair.caption_embedding).shape == (77, 8)
    assert reader.report.message().startswith("used 3 of 3 rows")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output_image": "9.png"}, "missing image file"),
        ({"output_image": "../../secret.png"}, "leaves its folder"),
        ({"image_caption_embeddings": "9.npy"}, "missing caption embedding"),
        ({"image_captions": None}, "key 'image_captions' is missing"),
        ({"image_captions": 5}, "image_captions=5: a text is expected"),
        ({"image_captions": ["a", "b"]}, "1 files in output_image, but 2 captions"),
        ({"conversations": [{"from": "human", "value": "x"}]}, "lacks a turn"),
        ({"output_image": None}, "no medium"),
    ],
)
def test_a_broken_row_is_named_with_file_and_index(folder, changes, message):
    _rewrite(folder, 1, **changes)
    with pytest.raises(UserError, match=message) as error:
        OfficialJSON(folder, ["set/x.json"]).read("train")
    assert "set/x.json, row 1" in str(error.value)


def _rows(folder, tokenizer, shape, **options):
    conversation = Conversation(tokenizer, {Modality.IMAGE: [9001]}, {}, embedding_shapes={Modality.IMAGE: shape})
    data = CaptionedPairs([OfficialJSON(folder, ["set/x.json"], **options)]).with_renderer(conversation)
    return data.rows("train")


def test_embeddings_of_another_shape_are_refused_before_training_with_both_numbers(folder, pocket_tokenizer):
    with pytest.raises(UserError, match=r"row 0.* is 77x8, the decoder's text encoder gives 77x768"):
        _rows(folder, pocket_tokenizer, (77, 768))
    assert _rows(folder, pocket_tokenizer, (77, 8))[0].rows[0].spans[0].embedding.shape == (77, 8)


def test_only_stages_that_use_embeddings_check_their_shapes(folder, pocket_tokenizer):
    conversation = Conversation(pocket_tokenizer, {}, {Modality.IMAGE: 2}, direction="comprehension")
    data = CaptionedPairs([OfficialJSON(folder, ["set/x.json"])]).with_renderer(conversation)
    assert not data.rows("train")[0].rows[0].spans


def test_pickles_are_refused(folder, pocket_tokenizer):
    np.save(folder / "embed" / "2.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match=r"row 2.*pickle"):
        _rows(folder, pocket_tokenizer, (77, 8))[2]


def test_skipped_rows_are_counted_and_named(folder):
    _rewrite(folder, 0, output_image="9.png")
    reader = OfficialJSON(folder, ["set/x.json"], on_error="skip")
    assert len(reader.read("train")) == 2
    assert "used 2 of 3 rows" in reader.report.message()
    assert "row 0" in reader.report.message()


def test_unreadable_json_and_missing_files(folder):
    (folder / "set" / "bad.json").write_text("[{]")
    with pytest.raises(UserError, match=r"set/bad\.json: row 0: unreadable JSON"):
        OfficialJSON(folder, ["set/bad.json"]).read("train")
    with pytest.raises(UserError, match=r"no such file; did you mean 'set/x\.json'"):
        OfficialJSON(folder, ["set/y.json"]).read("train")
    with pytest.raises(UserError, match="no such folder"):
        CaptionedPairs([OfficialJSON(folder / "nowhere", ["x.json"])])


def test_real_official_samples(shared):
    reader = OfficialJSON(
        shared / "official_samples",
        ["cc3m/cc3m_generation.json", "webvid/webvid_generation.json", "audiocap/audiocap_generation.json"],
    )
    assert len(reader.read("train")) == 22
    assert reader.report.message().startswith("used 22 of 22 rows")
    plain = OfficialJSON(shared / "official_samples", ["cc3m/cc3m.json"], plain_embeddings=True)
    assert all(p.caption_embedding for p in plain.read("train"))
    asked = OfficialJSON(shared / "official_samples", ["webvid/webvid_comprehension.json"]).read("train")
    assert asked[0].question.startswith("<video>\n")
    assert asked[0].caption == "Roses on the garden in the afternoon"


def test_captions_in_another_encoding_are_named_with_how_to_convert_them(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("une balle bleut\xe9e", encoding="latin1")
    (tmp_path / "m.jsonl").write_text('{"file": "a.png", "caption": "bleut\xe9e"}\n', encoding="latin1")
    hint = r"byte 0xe9 is not UTF-8; texts are UTF-8: iconv -f latin1 -t utf-8 "
    with pytest.raises(UserError, match=rf"{tmp_path.name}: a\.txt: {hint}a\.txt"):
        CaptionFolder(tmp_path).read("train")
    with pytest.raises(UserError, match=rf"m\.jsonl: line 1: {hint}m\.jsonl"):
        CaptionFolder(tmp_path, "m.jsonl").read("train")
    (tmp_path / "a.txt").write_text("une balle bleut\xe9e", encoding="utf-16")
    with pytest.raises(UserError, match=r"the file is UTF-16; texts are UTF-8: iconv -f UTF-16 -t utf-8 a\.txt"):
        CaptionFolder(tmp_path).read("train")


def test_caption_folder_by_side_files_and_by_manifest(folder):
    images = folder / "set" / "images"
    for index in range(2):
        (images / f"{index}.txt").write_text(f"a picture {index}\n")
    with pytest.raises(UserError, match=r"2\.png has no caption: 2\.txt does not exist"):
        CaptionFolder(images).read("train")
    pairs = CaptionFolder(images, on_error="skip", val_fraction=0).read("train")
    assert [p.caption for p in pairs] == ["a picture 0", "a picture 1"]
    (images / "._0.png").write_bytes(b"AppleDouble")
    (images / "__MACOSX").mkdir()
    (images / "__MACOSX" / "0.png").write_bytes(b"AppleDouble")
    source = CaptionFolder(images, on_error="skip", val_fraction=0)
    assert len(source.read("train")) == 2
    assert source.report.message().startswith("used 2 of 3 rows")
    (images / "all.jsonl").write_text('{"file_name": "0.png", "text": "zero"}\n{"file": "../x.png", "caption": "y"}\n')
    with pytest.raises(UserError, match=r"row 1: .* leaves its folder"):
        CaptionFolder(images, manifest="all.jsonl").read("train")


@pytest.mark.parametrize(("source", "split"), [(PocketWorld, "train"), (PocketDialogues, "val")])
def test_the_pocket_world_makes_no_endless_lists(source, split):
    with pytest.raises(UserError, match=rf"{source.__name__}\.{split}_size=1000001: at most 1,000,000 is expected"):
        source(**{f"{split}_size": 1_000_001})
