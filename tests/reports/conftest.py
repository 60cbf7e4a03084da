from pathlib import Path

import pytest
import yaml

CONFIG = {
    "seed_everything": 0,
    "trainer": {"max_steps": 20, "logger": None},
    "model": {
        "class_path": "nextgpt_pl.stages.DecoderAlignment",
        "init_args": {
            "alignment": "mse",
            "network": {
                "class_path": "nextgpt_pl.model.NextGPT",
                "init_args": {
                    "num_signal_tokens": None,
                    "output_projection": {
                        "class_path": "nextgpt_pl.projections.MLPOutputProjection",
                        "init_args": {"width": 512},
                    },
                },
            },
        },
    },
    "data": {"class_path": "nextgpt_pl.datamodules.CaptionedPairs", "init_args": {"seed": 0}},
    "run": {"root": "outputs", "name": "x"},
}


@pytest.fixture
def make_run(tmp_path):
    """Writes a run folder by hand: ``make_run("e/r", {"seed_everything": 1}, error=0.2)``."""

    def make(name: str, changes: dict | None = None, error: float = 0.5, finished: bool = True) -> Path:
        config = yaml.safe_load(yaml.safe_dump(CONFIG))
        for key, value in (changes or {}).items():
            *above, last = key.split(".")
            place = config
            for word in above:
                place = place[word]
            place[last] = value
        folder = tmp_path / "outputs" / name
        (folder / "adapter").mkdir(parents=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        if finished:
            (folder / "adapter" / "manifest.json").write_text("{}")
        rows = ["step,epoch,train/loss,val/loss,val/relative_mse_image,speed/samples_per_second"]
        rows += [f"{step},0,{9 / (step + 1)},,,{30 + step}" for step in range(0, 20, 5)]
        rows += [f"9,0,,2.0,{2 * error},", f"19,0,,1.5,{error},"]
        (folder / "metrics.csv").write_text("\n".join(rows) + "\n")
        # W&B keeps a configuration of its own
        (folder / "wandb" / "files").mkdir(parents=True)
        (folder / "wandb" / "files" / "config.yaml").write_text("{}")
        return folder

    return make


@pytest.fixture
def add_samples():
    """Writes sample media into a run folder, as a validation does."""
    import numpy as np
    from PIL import Image

    def add(folder: Path, captions: list[str], colour: int = 90) -> None:
        place = folder / "samples" / "val_step_000020"
        place.mkdir(parents=True)
        for index in range(len(captions)):
            for kind in ("text", "signal"):
                Image.fromarray(np.full((8, 8, 3), colour, np.uint8)).save(place / f"image_{index}_{kind}.png")
        (place / "image_captions.txt").write_text("".join(f"{i}: {c}\n" for i, c in enumerate(captions)))
        lines = ["key\tcaption\treference", *(f"k{i}\tsaid {c}\t{c}" for i, c in enumerate(captions))]
        (place / "captions.tsv").write_text("\n".join(lines) + "\n")

    return add
