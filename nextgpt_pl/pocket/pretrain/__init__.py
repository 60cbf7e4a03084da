"""``python -m nextgpt_pl pocket pretrain``: makes all pocket weights from nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

Part = Literal["llm", "encoder", "image", "video", "audio"]


def _pretrainers() -> dict[str, Callable[..., dict[str, float]]]:
    """Part -> its function, in the order in which they build on one another (video starts from image)."""
    from nextgpt_pl.pocket.pretrain.audio import pretrain_audio
    from nextgpt_pl.pocket.pretrain.encoder import pretrain_encoder
    from nextgpt_pl.pocket.pretrain.image import pretrain_image
    from nextgpt_pl.pocket.pretrain.text import pretrain_llm
    from nextgpt_pl.pocket.pretrain.video import pretrain_video

    return {
        "llm": pretrain_llm,
        "encoder": pretrain_encoder,
        "image": pretrain_image,
        "video": pretrain_video,
        "audio": pretrain_audio,
    }


def pretrain(
    part: Part | None = None,
    out: Path | None = None,
    work: Path = Path("outputs/pocket_pretrain"),
    seed: int = 0,
    steps: int | None = None,
) -> None:
    """Make the pocket weights from nothing; continues where an interrupted run stopped.

    Args:
        part: one part only; by default all of them, in order.
        out: where the weights go; by default into the package.
        work: where checkpoints of unfinished trainings lie; delete it to start afresh.
        seed: of data, initialisation and noise.
        steps: training steps of the part's last stage, instead of its default (for trials).

    """
    from nextgpt_pl.pocket.weights import weights_root

    out = out or weights_root()
    out.mkdir(parents=True, exist_ok=True)
    for name, function in _pretrainers().items():
        if part not in (None, name):
            continue
        print(f"pretraining {name} into {out / name}")
        started = time.perf_counter()
        folder = work / name
        folder.mkdir(parents=True, exist_ok=True)
        quality = function(out, folder, seed=seed, **({} if steps is None else {"steps": steps}))
        quality["seconds"] = round(time.perf_counter() - started, 1)
        (out / name / "quality.json").write_text(json.dumps(quality, indent=2) + "\n")
        print(f"{name}: " + ", ".join(f"{key} {value:.4g}" for key, value in quality.items()))


def main(argv: list[str]) -> int:
    """The verb ``pocket``: parses ``pretrain [--part ...]`` and runs it."""
    from jsonargparse import auto_cli

    auto_cli({"pretrain": pretrain}, args=argv, prog="nextgpt_pl pocket")
    return 0
