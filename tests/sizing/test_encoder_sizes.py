"""Sizes of published encoders, known without network and weights."""

from pathlib import Path

import pytest
import torch

from nextgpt_pl.encoders import PretrainedEncoder
from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.training.cli import build_model

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def _offline(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("NEXTGPT_DATA", str(tmp_path))


def test_slots_of_a_mix_and_options_of_one_of_its_encoders():
    command = ["-c", str(ROOT / "experiments" / "mixed" / "enc_align.yaml")]
    network = build_model([*command, "--model.network.encoder.encoders.hearing.grid=[150]"])[0].network
    assert {m: network.slot_length(m) for m in GENERATED} == {"image": 81, "video": 128, "audio": 150}
    assert [network.encoder.width(m) for m in GENERATED] == [1152, 1024, 1280]


# parameters as their authors state them: 428M, 304M, 637M; operations of a transformer with this many tokens
@pytest.mark.parametrize(
    ("path", "modality", "parameters", "tokens", "layers"),
    [
        ("google/siglip2-so400m-patch14-384", "image", 428_225_600, 27 * 27, 27),
        ("facebook/vjepa2-vitl-fpc64-256", "video", 303_885_312, 32 * 16 * 16, 24),
        ("openai/whisper-large-v3", "audio", 636_968_960, 1500, 32),
    ],
)
def test_parameters_and_operations_of_published_towers(path, modality, parameters, tokens, layers):
    from nextgpt_pl.sizing.measure import measure

    encoder = PretrainedEncoder(path, [modality], "patches", dtype="bfloat16")
    with torch.device("meta"):
        encoder.load()
    assert encoder.parameter_counts() == {"encoder": parameters}
    assert encoder.tokens(Modality(modality)) == tokens
    assert len(encoder.blocks()) == layers
    inside = sum(p.numel() for block in encoder.blocks() for p in block.parameters() if p.ndim > 1)
    expected = 2 * tokens * inside + 4 * layers * tokens**2 * encoder.width(Modality(modality))
    blank = encoder.blank(Modality(modality)).to("meta")
    with torch.no_grad():
        cost = measure(lambda: encoder(Modality(modality), blank), encoder)
    assert cost.forward == pytest.approx(expected, rel=0.05)
