"""Examples and choices of media that fit a run."""

from pathlib import Path

import pytest
import yaml
from PIL import Image

from nextgpt_pl.demo.examples import Abilities, abilities_of, examples_of
from nextgpt_pl.media.sound import load_audio
from nextgpt_pl.modality import GENERATED, Modality


def _run(folder, network):
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": {"init_args": {"network": network}}}))
    return folder


def test_abilities_are_those_that_the_run_names(outputs, tmp_path):
    assert abilities_of(outputs / "instruct" / "one") == Abilities(GENERATED, pocket=True)
    image = {"decoders": {"image": {}}, "encoder": {"init_args": {"weights": "imagebind_huge.pth"}}}
    assert abilities_of(_run(tmp_path, image)) == Abilities((Modality.IMAGE,))
    assert abilities_of(_run(tmp_path, {"init_args": image})) == Abilities((Modality.IMAGE,))
    assert abilities_of(_run(tmp_path, {"encoder": None, "decoders": None})) == Abilities()


@pytest.mark.parametrize("content", ["", "a: [", "[1]", "model: 1", "model: {init_args: {network: [1]}}"])
def test_a_run_with_a_broken_config_has_no_abilities(content, tmp_path):
    (tmp_path / "config.yaml").write_text(content)
    assert abilities_of(tmp_path) == Abilities()


def test_examples_of_media_are_of_the_pocket_world_and_for_its_runs_alone(tmp_path):
    assert [example["text"] for example in examples_of(Abilities((Modality.AUDIO,)), tmp_path)] == [
        "Play two short high bells.",
        "Which shapes do you know?",
    ]
    assert not list(tmp_path.iterdir())
    shown = [example for example in examples_of(Abilities(GENERATED, pocket=True), tmp_path) if "files" in example]
    picture, sound = (Path(file) for example in shown for file in example["files"])
    assert Image.open(picture).size == (64, 64)
    assert len(load_audio(sound)[0]) == 32000
