"""``pocket pack``: put a run into the package, as ``pocket:chat``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from nextgpt_pl.config.yaml_files import read_yaml
from nextgpt_pl.errors import UserError, no_file
from nextgpt_pl.utils.atomic import write_atomic
from nextgpt_pl.utils.paths import CHAT, pocket_weights
from nextgpt_pl.verbs.score import table_rows

MAX_BYTES = 20_000_000  # of the packed weights


def pack(run: Path | None = None, scores: Path | None = None, out: Path | None = None) -> None:
    """Put the adapter and the configuration of a run into the package, as pocket:chat, and rewrite the model card.

    Args:
        run: folder of the run; by default only the scores are recorded.
        scores: scores.json of the packed run, which the model card then shows; ``score`` makes it.
        out: folder of the pocket weights; by default that of the package.

    Raises:
        UserError: the run has no adapter, a file is missing, or the weights are larger than 20 MB.

    """
    from nextgpt_pl.pocket.pretrain import card

    if scores is not None and not scores.is_file():
        raise UserError(f"--scores: {no_file(scores)}")
    root = out or pocket_weights()
    folder = root / CHAT
    if run is not None:
        _write(run, folder)
    if not (folder / "config.yaml").is_file():
        raise UserError("--run: give the folder of a run, such as outputs/long/instruct/RUN")
    if scores is not None:
        rows = {f"{route}: {what}": result for route, what, result in table_rows(json.loads(scores.read_text()))}
        card.write_quality(folder, measured=rows)
    card.write_card(root)
    print(f"packed: {folder}")


def _write(run: Path, folder: Path) -> None:
    from nextgpt_pl.adapter import read_adapter, write_adapter
    from nextgpt_pl.verbs.hub_folder import model_block

    manifest, tensors = read_adapter(run / "adapter")
    halves = {key: tensor.half() for key, tensor in tensors.items()}
    size = sum(tensor.nbytes for tensor in halves.values())
    if size > MAX_BYTES:
        raise UserError(f"{run}: {size / 1e6:.1f} MB in half precision, at most {MAX_BYTES / 1e6:.0f} are packed")
    config: dict[str, Any] = {"model": model_block(read_yaml(run / "config.yaml"))}
    # bfloat16 may have trained it; on most CPUs that is slower
    config["model"]["init_args"]["network"]["init_args"]["llm"]["init_args"]["dtype"] = "float32"
    write_adapter(folder / "adapter", halves, manifest)
    write_atomic(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False))
