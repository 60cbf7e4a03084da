"""Stages as the paper's YAMLs configure them, on the tiny parts and narrow projections."""

import json
from pathlib import Path

from lightning.pytorch import seed_everything

EXPERIMENTS = Path(__file__).parent.parent.parent / "experiments"
_PICTURE = {"num_inference_steps": 2, "guidance_scale": 7.5, "height": 64, "width": 64}
# two steps of diffusion, of small media, are enough to run every part
SMALL = {
    "image": _PICTURE,
    "video": {**_PICTURE, "num_frames": 4},
    "audio": {"num_inference_steps": 2, "guidance_scale": 2.5, "audio_length_in_s": 1.0},
}
_NARROW = {
    "input_projection.init_args.width": 16,
    "input_projection.init_args.groups": [8, 4],
    "input_projection.init_args.depths": [1, 1, 1],
    "input_projection.init_args.heads": 2,
    "output_projection.init_args.width": 16,
    "output_projection.init_args.layers": 1,
    "output_projection.init_args.heads": 2,
}


def arguments(parts, file, *further):
    """Command-line arguments: the YAML with the paths of ``parts``, small media, and no workers."""
    found = [
        *("-c", str(EXPERIMENTS / file)),
        f"--model.network.llm.path={parts / 'llm'}",
        f"--model.network.encoder.weights={parts / 'encoder'}",
        "--data.num_workers=0",
    ]
    for name, value in _NARROW.items():
        found.append(f"--model.network.{name}={value}")
    for name, sampling in SMALL.items():
        decoder = f"--model.network.decoders.{name}"
        found += [f"{decoder}.path={parts / name}", f"{decoder}.sampling={json.dumps(sampling)}"]
        sizes = {k: v for k, v in sampling.items() if k not in ("num_inference_steps", "guidance_scale")}
        found.append(f"{decoder}.loss_size={json.dumps(sizes)}")
    return [*found, *further]


def build(parts, file, *further):
    """Stage and data module of the YAML, seeded as the command line does it."""
    from nextgpt_pl.training.cli import build

    seed_everything(0, verbose=False)
    return build(arguments(parts, file, *further))


FLOAT32 = ["--model.network.llm.dtype=float32", *(f"--model.network.decoders.{m}.dtype=float32" for m in SMALL)]
