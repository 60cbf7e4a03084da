"""The paper's YAMLs, with only the paths changed, on tiny random instances of the same classes."""

import json
from pathlib import Path

import numpy as np
import pytest
from paper_stages import EXPERIMENTS, SMALL

from nextgpt_pl.__main__ import main
from nextgpt_pl.pipeline import AnyToAny


def _size(sampling):
    sizes = ("height", "width", "num_frames", "audio_length_in_s")
    return {name: value for name, value in sampling.items() if name in sizes}


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch, official_data):
    monkeypatch.setenv("NEXTGPT_DATA", str(official_data))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)


def _fit(tiny, file, *arguments):
    paths = [
        f"--model.network.llm.path={tiny / 'llm'}",
        f"--model.network.encoder.weights={tiny / 'encoder'}",
        *(f"--model.network.decoders.{m}.path={tiny / m}" for m in SMALL),
    ]
    # a CPU computes in float32, and the loader's processes take longer to start than this test to run
    cpu = [
        "--trainer.accelerator=cpu",
        "--trainer.precision=32-true",
        "--model.network.llm.dtype=float32",
        *(f"--model.network.decoders.{m}.dtype=float32" for m in SMALL),
        "--data.num_workers=0",
    ]
    if "CaptionedPairs" in (EXPERIMENTS / file).read_text():
        cpu.append("--data.sources.init_args.val_fraction=0")  # of one row in each file, none would be held out
    return main(["fit", "-c", str(EXPERIMENTS / file), *paths, *cpu, *arguments])


@pytest.mark.slow
@pytest.mark.parametrize("version", ["paper", "paper_v1"])
def test_three_stages_and_a_reply_of_every_medium(tiny, version):
    few = [f"--model.network.decoders.{m}.sampling={json.dumps(sampling)}" for m, sampling in SMALL.items()]
    few += [f"--model.network.decoders.{m}.loss_size={json.dumps(_size(SMALL[m]))}" for m in SMALL]
    assert _fit(tiny, f"{version}/enc_align.yaml", "--trainer.fast_dev_run=1") == 0
    assert _fit(tiny, f"{version}/dec_align.yaml", "--trainer.fast_dev_run=1", "--model.samples=1", *few) == 0
    (drawn,) = Path("outputs", version, "dec_align").glob("*/samples/val_step_*")
    assert {"image_0_signal.png", "video_0_signal.mp4", "audio_0_signal.wav"} <= {p.name for p in drawn.iterdir()}
    stop = ["--trainer.max_steps=1", "--trainer.limit_val_batches=0", "--run.name=a", "--trainer.log_every_n_steps=1"]
    small = [argument for argument in few if "loss_size" in argument]
    assert _fit(tiny, f"{version}/instruct.yaml", *stop, *small) == 0
    assert "train/denoising_image" in Path("outputs", version, "instruct", "a", "metrics.csv").read_text()
    chat = AnyToAny.from_run(Path("outputs", version, "instruct", "a"), "cpu")
    reply = chat([{"role": "user", "content": "Show me a circle."}], modalities=list(SMALL), **SMALL)
    shapes = {part.type: part.array.shape for part in reply if part.type != "text"}
    assert shapes == {"image": (64, 64, 3), "video": (4, 64, 64, 3), "audio": (16_000,)}
    assert all(np.isfinite(part.array).all() for part in reply if part.type != "text")
