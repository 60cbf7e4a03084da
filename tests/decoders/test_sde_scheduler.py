"""Stable Audio with the scheduler that it is published with, which needs torchsde."""

import numpy as np
import pytest
import torch
from tiny_pipelines import PIPELINES

from nextgpt_pl.decoders import StableAudioDecoder
from nextgpt_pl.errors import UserError

NAME, SCHEDULER = "StableAudioPipeline", "CosineDPMSolverMultistepScheduler"
CASE = PIPELINES[NAME]
PUBLISHED = {"sigma_min": 0.3, "sigma_max": 500.0, "sigma_data": 1.0, "prediction_type": "v_prediction"}
INSTALL = r"needs torchsde: pip install 'nextgpt-pl\[sde\]'"


def _saved(folder):
    pytest.importorskip("torchsde")
    import diffusers

    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipeline = CASE.build()
    pipeline.scheduler = getattr(diffusers, SCHEDULER)(**PUBLISHED)
    pipeline.save_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _decoder(folder, **options):
    return StableAudioDecoder(
        NAME, str(folder), {**CASE.sampling, "num_inference_steps": 4}, max_length=CASE.length, **options
    )


def test_sounds_are_those_of_the_pipeline_and_of_their_seed(tmp_path):
    pipeline, decoder = _saved(tmp_path), _decoder(tmp_path)
    captions = ["a small red circle", "star"]
    ours = decoder.generate(decoder.embed_captions(captions), seed=[3, 8])
    decoder.set_up.apply(pipeline, torch.device("cpu"))
    arguments = {**CASE.arguments(pipeline, 1), "num_inference_steps": 4}
    for caption, seed, sound in zip(captions, (3, 8), ours, strict=True):
        generator = torch.Generator().manual_seed(seed)
        theirs = pipeline([caption], generator=generator, output_type="np", **arguments).audios[0]
        assert sound.std() > 0
        np.testing.assert_allclose(sound, np.asarray(theirs).mean(0), atol=1e-6)
    (again,) = decoder.generate(decoder.embed_captions(captions[:1]), seed=4)
    assert np.abs(again - ours[0]).max() > 1e-3


def test_the_extra_is_named_without_torchsde(tmp_path, monkeypatch):
    import diffusers
    from diffusers.utils import dummy_torch_and_torchsde_objects as absent

    _saved(tmp_path)
    monkeypatch.setattr(diffusers, SCHEDULER, getattr(absent, SCHEDULER))
    decoder = _decoder(tmp_path)
    with pytest.raises(UserError, match=rf"its scheduler {SCHEDULER} {INSTALL}"):
        decoder.generate(decoder.embed_captions(["a ring"]), seed=0)
    with pytest.raises(UserError, match=rf"scheduler='{SCHEDULER}' {INSTALL}"):
        _decoder(tmp_path, scheduler=SCHEDULER)
