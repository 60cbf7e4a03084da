"""What ``summary`` counts against a whole step that runs with fake tensors."""

import dataclasses
import re
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from nextgpt_pl.__main__ import main
from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.parts import pocket_decoder
from nextgpt_pl.sizing import budget
from nextgpt_pl.sizing.budget import Workload
from nextgpt_pl.sizing.fake_memory import activation_peak
from nextgpt_pl.sizing.live_bytes import LiveBytes
from nextgpt_pl.sizing.measure import fused
from nextgpt_pl.training.cli import build_model

EXPERIMENTS = Path(__file__).parent.parent.parent / "experiments"


def test_bytes_live_from_the_operation_that_makes_them_until_they_are_freed():
    layer = torch.nn.Linear(8, 4, bias=False, device="meta")
    live = LiveBytes()
    live.count(list(layer.parameters()))
    assert live.now == 4 * 8 * 4
    with live:
        inputs = torch.empty(3, 8, device="meta")
        out = layer(inputs).square()
        # the input, what the layer gives, which the square saves, and its square
        assert live.now == 4 * (8 * 4 + 3 * 8 + 2 * 3 * 4)
        view = out.t()
        assert live.now == live.peak
        del out, view
    assert live.now == 4 * (8 * 4 + 3 * 8)
    assert live.peak == 4 * (8 * 4 + 3 * 8 + 2 * 3 * 4)


def _denoising_peak(decoder, count):
    """Most bytes that the denoising loss of images holds beside the weights, forward and backward."""
    denoiser = decoder.denoiser(weights=False).to(torch.bfloat16)
    scheduler = decoder.files.part_class("scheduler").from_config(
        decoder.files.json("scheduler_config.json", "scheduler")
    )
    live = LiveBytes()
    with FakeTensorMode(allow_non_fake_inputs=True), fused():
        denoiser.to_empty(device="cpu").eval()
        live.count(list(denoiser.parameters()))
        start = live.now
        with live:
            embeddings = torch.empty(count, *decoder.embedding_shape, requires_grad=True)
            latents = torch.empty(count, *decoder.latent_shape(frames=False))
            decoder.loss_through(denoiser, scheduler, embeddings, latents, 5.0, torch.Generator()).backward()
    return live.peak - start


def test_the_denoising_loss_holds_one_medium_whatever_the_batch():
    decoder = pocket_decoder(Modality.IMAGE)
    alone = _denoising_peak(decoder, 1)
    assert _denoising_peak(decoder, 3) < 1.1 * alone  # embeddings, latents and noise of three
    decoder.loss_batch = 2
    assert 1.5 * alone < _denoising_peak(decoder, 2) < 2.1 * alone


def _stage(name, *arguments):
    stage, _ = build_model(["-c", str(EXPERIMENTS / name), *arguments])
    stage.init_from = None
    with torch.device("meta"):
        stage.configure_model()
    return stage


@pytest.mark.parametrize(
    ("name", "modality", "shown", "denoised", "autocast"),
    [
        ("enc_align.yaml", Modality.IMAGE, True, False, False),
        ("enc_align.yaml", Modality.IMAGE, True, False, True),
        ("dec_align.yaml", None, False, False, True),
        ("dec_align.yaml", Modality.AUDIO, False, False, False),
        pytest.param("dec_align.yaml", Modality.VIDEO, False, True, True, marks=pytest.mark.slow),
        pytest.param("instruct.yaml", Modality.IMAGE, True, True, False, marks=pytest.mark.slow),
    ],
)
def test_what_is_counted_is_within_a_tenth_of_what_a_step_holds(name, modality, shown, denoised, autocast):
    network = _stage(name).network
    work = Workload(4, 128, 32, 1, "replicated", shown=shown, made=name != "enc_align.yaml", autocast=autocast)
    work = dataclasses.replace(work, denoised=[modality] if denoised else [])
    counted = budget.activations(budget.step_costs(network, work), modality)
    assert counted == pytest.approx(activation_peak(network, work, modality), rel=0.1)


def test_a_recomputed_llm_is_counted_so():
    stage = _stage(
        "dec_align.yaml", "--model.network.llm.gradient_checkpointing=true", "--model.network.llm.frozen_prefix=false"
    )
    work = Workload(8, 256, 32, 1, "replicated", shown=False, made=False)
    counted = budget.activations(budget.step_costs(stage.network, work), None)
    assert counted == pytest.approx(activation_peak(stage.network, work), rel=0.1)


@pytest.mark.slow
def test_the_papers_second_stage_fits_a_gpu_of_80_gb(capsys, tmp_path, monkeypatch):
    """Eight videos in a batch; with Zeroscope's activations of all of them it would be over 60 GiB."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("NEXTGPT_DATA", str(tmp_path))
    assert main(["summary", "-c", str(EXPERIMENTS / "paper" / "dec_align.yaml")]) == 0
    printed = capsys.readouterr().out
    (line,) = re.findall("with fake tensors: .*", printed)
    assert line.endswith("fits 80 GB")
    activations, everything = (float(number) for number in re.findall(r"([\d.]+) GiB", line))
    (counted,) = re.findall(r"  activations +([\d.]+) GiB", printed)
    assert float(counted) == pytest.approx(activations, rel=0.1)
    assert activations < 8
    assert everything < 40
