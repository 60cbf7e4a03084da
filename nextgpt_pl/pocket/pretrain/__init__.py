"""``python -m nextgpt_pl pocket pretrain``: trains all pocket weights from scratch."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Literal

Part = Literal["llm", "encoder", "image", "video", "audio", "depth", "thermal", "imu", "speech"]
# module of each part, in the order of their dependencies: video starts from image, and thermal from depth
_MODULES: dict[Part, str] = {
    **{"llm": "text", "encoder": "encoder", "image": "image", "video": "video", "audio": "audio"},
    **{"depth": "sensed", "thermal": "sensed", "imu": "sensed"},
}
# made only where it is asked for: its weights are not in the package, and it needs the extra ``speech``
_ON_REQUEST: dict[Part, str] = {"speech": "speech"}


def pretrain(
    part: Part | None = None,
    out: Path | None = None,
    work: Path = Path("outputs/pocket_pretrain"),
    seed: int = 0,
    steps: int | None = None,
) -> None:
    """Train the pocket weights from scratch; resumes an interrupted run.

    Args:
        part: train one part only; by default all parts in order that are in the package. ``speech`` needs the extra
            ``speech``; ``depth``, ``thermal`` and ``imu`` need the encoder, and ``thermal`` starts from ``depth``.
        out: output folder of the weights; by default that of the package.
        work: folder of checkpoints of unfinished trainings; delete it to start from scratch.
        seed: seed of data, initialisation and noise.
        steps: number of steps of every training, for a quick test.

    """
    from nextgpt_pl.pocket.pretrain.loop import RECORD
    from nextgpt_pl.utils.paths import pocket_weights

    out = out or pocket_weights()
    for name in _MODULES if part is None else (part,):
        print(f"pretraining {name} into {out / name}")
        folder = work / name
        folder.mkdir(parents=True, exist_ok=True)
        module = import_module(f"{__name__}.{(_MODULES | _ON_REQUEST)[name]}")
        getattr(module, f"pretrain_{name}")(out, folder, seed=seed, steps=steps)
        _measure(name, out, count=96, trained=json.loads((folder / RECORD).read_text()))


def measure(part: Part | None = None, count: int = 500) -> None:
    """Measure the package's weights on held-out items by the exact judges, and rewrite the model card.

    Args:
        part: measure one part only; by default all parts.
        count: items per decoder.

    """
    from nextgpt_pl.utils.paths import pocket_weights

    for name in _MODULES if part is None else (part,):
        if (pocket_weights() / name).is_dir():
            _measure(name, pocket_weights(), count)
        else:
            print(f"{name}: no weights in {pocket_weights() / name}; make them with: pocket pretrain --part {name}")


def _measure(part: Part, root: Path, count: int, trained: dict[str, dict[str, float]] | None = None) -> None:
    """Measure a part in ``root``, record and print its quality, and rewrite the card of the package's parts."""
    from nextgpt_pl.pocket.pretrain import card, quality

    measured = quality.measure(part, root, count)
    card.write_quality(root / part, measured=measured, trained=trained)
    if part not in _ON_REQUEST:
        card.write_card(root)
    print(f"{part}: " + ", ".join(f"{key} {value:.4g}" for key, value in measured.items()))


def sheet(out: Path = Path("outputs/pocket_sheet.png"), seed: int = 0) -> None:
    """Draw a contact sheet: 64 images, 16 video strips and 16 spectrograms of held-out captions, one PNG.

    Args:
        out: output file.
        seed: seed of the noise.

    """
    from nextgpt_pl.pocket.pretrain.contact_sheet import draw_sheet

    draw_sheet(out, seed)
    print(f"contact sheet: {out}")
