"""``data index-gallery``, from the command line to a reply's medium."""

import json
from pathlib import Path

import numpy as np
import pytest

from nextgpt_pl.__main__ import main
from nextgpt_pl.training.cli import build

pytest.importorskip("faiss")
EXPERIMENTS = Path(__file__).parent.parent.parent / "experiments"
SOURCE = {"class_path": "nextgpt_pl.datamodules.PocketWorld", "init_args": {"train_size": 8, "val_size": 4}}
ALIGN = ["-c", str(EXPERIMENTS / "dec_align.yaml")]
MIX = ["-c", str(EXPERIMENTS / "baselines" / "retrieval.yaml")]
FEW = [f"--data.sources={json.dumps([SOURCE])}"]


def test_the_galleries_of_a_yaml_are_made_once_and_answer_its_decoders(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["data", "index-gallery", *ALIGN, *MIX, *FEW]
    assert main([*command, "--workers=2"]) == 0
    printed = capsys.readouterr().out
    for modality in ("image", "video", "audio"):
        assert f"outputs/galleries/pocket_{modality}: 8 {modality}s, vectors of " in printed
    assert printed.count("takes the gallery's medium for 50% of them") == 3
    stage, data = build([*ALIGN, *MIX, *FEW])
    items = data.sources[0].read("train")
    for modality, decoder in stage.network.decoders.items():
        item = next(item for item in items if item.modality is modality)
        (array,) = decoder.generate(decoder.embed_captions([item.caption]), seed=0)
        np.testing.assert_array_equal(array, item.media.source())
        assert decoder.counts["retrieved"] == 1
    changed = {**SOURCE, "init_args": {"train_size": 9, "val_size": 4}}
    assert main(["data", "index-gallery", *ALIGN, *MIX, f"--data.sources={json.dumps([changed])}"]) == 2
    assert "pocket_image: made of another data; give another folder, or remove it" in capsys.readouterr().err


def test_a_yaml_without_a_decoder_that_retrieves_is_refused(capsys):
    assert main(["data", "index-gallery", *ALIGN]) == 2
    assert "no decoder of the YAML is a nextgpt_pl.decoders.retrieval.RetrievalDecoder" in capsys.readouterr().err
    assert main(["data", "index-gallery", "--help"]) == 0
    assert "--workers" in capsys.readouterr().out
