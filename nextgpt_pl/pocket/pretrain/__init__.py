"""``python -m nextgpt_pl pocket pretrain``: trains all pocket weights from scratch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

Part = Literal["llm", "encoder", "image", "video", "audio"]


def _pretrainers() -> dict[str, Callable[..., dict[str, float]]]:
    """Training function per part, in the order of their dependencies (video starts from image)."""
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
    """Train the pocket weights from scratch; resumes an interrupted run.

    Args:
        part: train one part only; by default all parts in order.
        out: output folder of the weights; by default that of the package.
        work: folder of checkpoints of unfinished trainings; delete it to start from scratch.
        seed: seed of data, initialisation and noise.
        steps: number of steps of every training, for a quick test.

    """
    from nextgpt_pl.pocket.pretrain import card
    from nextgpt_pl.pocket.pretrain.loop import RECORD
    from nextgpt_pl.utils.paths import pocket_weights

    out = out or pocket_weights()
    out.mkdir(parents=True, exist_ok=True)
    for name, function in _pretrainers().items():
        if part not in (None, name):
            continue
        print(f"pretraining {name} into {out / name}")
        folder = work / name
        folder.mkdir(parents=True, exist_ok=True)
        quality = function(out, folder, seed=seed, steps=steps)
        card.write_quality(out / name, trained=json.loads((folder / RECORD).read_text()), measured=quality)
        print(f"{name}: " + ", ".join(f"{key} {value:.4g}" for key, value in quality.items()))
    card.write_card(out)


def measure(part: Part | None = None, count: int = 500) -> None:
    """Measure the package's weights on held-out items by the exact judges, and rewrite the model card.

    Args:
        part: measure one part only; by default all parts.
        count: items per decoder.

    """
    from nextgpt_pl.pocket.pretrain import card, quality
    from nextgpt_pl.utils.paths import POCKET_PARTS, pocket_weights

    for name in POCKET_PARTS if part is None else (part,):
        if not (pocket_weights() / name).is_dir():
            print(f"{name}: no weights in {pocket_weights() / name}; make them with: pocket pretrain --part {name}")
            continue
        measured = quality.measure_shipped(name, count)
        card.write_quality(pocket_weights() / name, measured=measured)
        print(f"{name}: " + ", ".join(f"{key} {value:.4g}" for key, value in measured.items()))
    card.write_card(pocket_weights())


def sheet(out: Path = Path("outputs/pocket_sheet.png"), seed: int = 0) -> None:
    """Draw a contact sheet: 64 images, 16 video strips and 16 spectrograms of held-out captions, one PNG.

    Args:
        out: output file.
        seed: seed of the noise.

    """
    from nextgpt_pl.pocket.pretrain.contact_sheet import draw_sheet

    draw_sheet(out, seed)
    print(f"contact sheet: {out}")
