"""The paper's YAMLs, with only the paths changed, on tiny random instances of the same classes."""

import json
import shutil
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


def _with_a_made_image(data, copy):
    """The data with the image of a T2M row, which the prepared files do not name; the denoising loss compares it."""
    shutil.copytree(data, copy)
    folder = copy / "IT_data" / "T-T+X_data"
    (row,) = json.loads((folder / "image_instruction_tuning.json").read_text())
    (folder / "image_instruction_tuning.json").write_text(json.dumps([{**row, "output_image": "a.png"}]))
    shutil.copytree(copy / "T_X_pair_data" / "cc3m" / "images", folder / "images")
    return copy


@pytest.mark.parametrize(
    "version", [pytest.param("paper", marks=pytest.mark.slow), pytest.param("paper_v1", marks=pytest.mark.long)]
)
def test_three_stages_and_a_reply_of_every_medium(tiny, version, official_data, tmp_path, monkeypatch):
    few = [f"--model.network.decoders.{m}.sampling={json.dumps(sampling)}" for m, sampling in SMALL.items()]
    few += [f"--model.network.decoders.{m}.loss_size={json.dumps(_size(SMALL[m]))}" for m in SMALL]
    assert _fit(tiny, f"{version}/enc_align.yaml", "--trainer.fast_dev_run=1") == 0
    assert _fit(tiny, f"{version}/dec_align.yaml", "--trainer.fast_dev_run=1", "--model.samples=1", *few) == 0
    (drawn,) = Path("outputs", version, "dec_align").glob("*/samples/val_step_*")
    assert {"image_0_signal.png", "video_0_signal.mp4", "audio_0_signal.wav"} <= {p.name for p in drawn.iterdir()}
    stop = ["--trainer.max_steps=1", "--trainer.limit_val_batches=0", "--run.name=a", "--trainer.log_every_n_steps=1"]
    small = [argument for argument in few if "loss_size" in argument]
    monkeypatch.setenv("NEXTGPT_DATA", str(_with_a_made_image(official_data, tmp_path / "data")))
    assert _fit(tiny, f"{version}/instruct.yaml", *stop, *small) == 0
    assert "train/denoising_image" in Path("outputs", version, "instruct", "a", "metrics.csv").read_text()
    chat = AnyToAny.from_run(Path("outputs", version, "instruct", "a"), "cpu")
    reply = chat([{"role": "user", "content": "Show me a circle."}], modalities=list(SMALL), **SMALL)
    shapes = {part.type: part.array.shape for part in reply if part.type != "text"}
    assert shapes == {"image": (64, 64, 3), "video": (4, 64, 64, 3), "audio": (16_000,)}
    assert all(np.isfinite(part.array).all() for part in reply if part.type != "text")
