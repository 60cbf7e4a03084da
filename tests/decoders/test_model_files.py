"""The model blocks with decoders of today instantiate in their experiment, and work with a pipeline's folder."""

import re
from pathlib import Path

import numpy as np
import pytest
from named_files import write_named_files
from tiny_pipelines import PIPELINES, saved

from nextgpt_pl.training.cli import ExperimentCLI, parser_arguments

ROOT = Path(__file__).parent.parent.parent
# files that exchange one decoder, with the width of a published embedding
FILES = {"image_flux": "image", "video_wan": "video", "audio_audioldm2": "audio"}


@pytest.mark.parametrize("name", FILES)
def test_a_decoder_of_today_in_an_experiment(name, monkeypatch, tmp_path):
    file, modality = ROOT / f"experiments/models/{name}.yaml", FILES[name]
    command = next(line for line in file.read_text().splitlines() if "python -m nextgpt_pl" in line)
    files = re.findall(r"-c (\S+\.yaml)", command)
    assert files[-1] == str(file.relative_to(ROOT))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("NEXTGPT_DATA", str(tmp_path))
    monkeypatch.setenv("NEXTGPT_RUN_FOLDER", "")
    write_named_files(ROOT / files[0], tmp_path)
    monkeypatch.chdir(tmp_path)
    cli = ExperimentCLI(**parser_arguments([a for f in files for a in ("-c", str(ROOT / f))]), run=False)
    ((named, decoder),) = cli.model.network.decoders.items()
    assert named == modality
    case = PIPELINES[decoder.pipeline_name]
    saved(decoder.pipeline_name, tmp_path / "pipeline")
    small = type(decoder)(
        decoder.pipeline_name,
        str(tmp_path / "pipeline"),
        case.sampling,
        dtype="float32",
        max_length=case.length,
        fps=decoder.fps,
        offload=decoder.set_up.offload,
    )
    (medium,) = small.generate(small.embed_captions(["a small red circle"]), seed=0)
    assert medium.ndim == {"image": 3, "video": 4, "audio": 1}[modality]
    assert np.isfinite(medium).all()
    assert small.rate == {"image": None, "video": 16.0, "audio": 16000.0}[modality]
