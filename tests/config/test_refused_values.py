"""Values that cannot be right are refused when objects are constructed, before weights are read."""

import copy
from pathlib import Path

import pytest
import yaml

from nextgpt_pl.errors import UserError
from nextgpt_pl.saved_network import network_of
from nextgpt_pl.stages import DecoderAlignment

POCKET = yaml.safe_load((Path(__file__).parents[2] / "experiments" / "models" / "pocket.yaml").read_text())


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("encoder", {"video_clips": 0}, "encoder.video_clips=0: at least 1"),
        ("encoder", {"audio_clips": -1}, "encoder.audio_clips=-1: at least 1"),
        ("llm", {"dtype": "float12"}, "one of 'float32', 'bfloat16', 'float16' is expected, got 'float12'"),
        ("llm", {"attention": "someone/kernel"}, "one of 'sdpa', 'eager', "),
        ("image", {"dtype": "float12"}, "one of 'float32', 'bfloat16', 'float16' is expected, got 'float12'"),
        ("image", {"scheduler": "Nope"}, "decoder scheduler='Nope': diffusers has no such scheduler"),
        ("image", {"scheduler": "UNet2DModel"}, "decoder scheduler='UNet2DModel': diffusers has no such scheduler"),
        ("image", {"pipeline": "Nope"}, "decoder pipeline='Nope': diffusers has no such pipeline"),
        ("image", {"sampling": {"num_inference_steps": 0}}, "sampling.num_inference_steps=0: above 0"),
        ("image", {"sampling": {"width": 0}}, "sampling.width=0: above 0"),
        ("image", {"sampling": {"height": -8}}, "sampling.height=-8: above 0"),
        ("video", {"fps": -1.0}, "decoder fps=-1.0: above 0"),
        ("video", {"fps": 0.0}, "decoder fps=0.0: above 0"),
        ("output_projection", {"width": 0}, "network.output_projection.width=0: at least 1"),
        ("input_projection", {"width": 0}, "network.input_projection.width=0: at least 1"),
    ],
)
def test_a_networks_values(part, change, message):
    network = copy.deepcopy(POCKET)
    parts = network["init_args"] | network["init_args"]["decoders"]
    parts[part].setdefault("init_args", {}).update(change)
    with pytest.raises(UserError) as caught:
        network_of({"model": {"init_args": {"network": network}}})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text_weight": -1.0}, "model.text_weight=-1.0: at least 0"),
        ({"text_weight": float("nan")}, "model.text_weight=nan: at least 0"),
        ({"alignment_weights": {"image": -1.0}}, "model.alignment_weights.image=-1.0: at least 0"),
        ({"denoising_weights": {"image": -1.0}}, "model.denoising_weights.image=-1.0: at least 0"),
        ({"rows_at_a_time": 0}, "model.rows_at_a_time=0: at least 1"),
        ({"samples": -1}, "model.samples=-1: at least 0"),
    ],
)
def test_a_stages_values(arguments, message):
    network = network_of({"model": {"init_args": {"network": POCKET}}})
    with pytest.raises(UserError) as caught:
        DecoderAlignment(network, **arguments)
    assert message in str(caught.value)
