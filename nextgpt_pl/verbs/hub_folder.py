"""The folder that ``push`` uploads: adapter, network's configuration, files for transformers, model card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from nextgpt_pl.adapter import MANIFEST, WEIGHTS
from nextgpt_pl.config.yaml_files import read_yaml
from nextgpt_pl.errors import UserError
from nextgpt_pl.hub.configuration import CODE, auto_files
from nextgpt_pl.utils.atomic import write_atomic
from nextgpt_pl.verbs.model_card import card
from nextgpt_pl.verbs.score import RESULTS

_OPTIONAL = (RESULTS, Path("key_mapping.json"))  # copied if they exist, without their folders
_LOCAL_KEYS = ("init_from", "cache")  # paths that exist on the training machine only


def write_folder(run: Path, folder: Path, repo: str) -> None:
    """Write the files to upload.

    Args:
        run: folder of the run.
        folder: output folder; new, empty, or written by an earlier ``push``.
        repo: name on the hub, ``user/name``, for the model card.

    Raises:
        UserError: the run has no adapter or no configuration, or the folder has other contents.

    """
    adapter = run / "adapter"
    for file in (run / "config.yaml", adapter / MANIFEST, adapter / WEIGHTS):
        if not file.is_file():
            raise UserError(
                f"{run}: no {file.relative_to(run)} there; give the folder of a run or of an imported checkpoint"
            )
    if folder.exists() and any(folder.iterdir()) and not (folder / "adapter" / WEIGHTS).is_file():
        raise UserError(f"--out {folder}: the folder is not empty and was not written by push")
    (folder / "adapter").mkdir(parents=True, exist_ok=True)
    for name in (WEIGHTS, MANIFEST):
        shutil.copyfile(adapter / name, folder / "adapter" / name)
    for path in _OPTIONAL:
        if (run / path).is_file():
            shutil.copyfile(run / path, folder / path.name)
    config = {"model": model_block(read_yaml(run / "config.yaml"))}
    write_atomic(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False))
    shutil.copyfile(CODE, folder / CODE.name)
    for name, content in auto_files().items():
        write_atomic(folder / name, json.dumps(content, indent=2) + "\n")
    write_atomic(folder / "README.md", card(run, repo, config["model"]))


def model_block(config: Mapping[str, Any]) -> dict[str, Any]:
    """The ``model`` section of a run's configuration, without paths of the training machine.

    Raises:
        UserError: there is no such section.

    """
    model = config.get("model") if isinstance(config, Mapping) else None
    if not isinstance(model, Mapping) or not isinstance(model.get("init_args"), Mapping):
        raise UserError("config.yaml has no model.init_args: give the folder of a run or of an imported checkpoint")
    model = _without_local_keys(model)
    network = model["init_args"].get("network")
    if isinstance(network, Mapping):
        model["init_args"]["network"] = _without_local_keys(network)
    return model


def _without_local_keys(block: Mapping[str, Any]) -> dict[str, Any]:
    kept = {k: v for k, v in block.items() if k not in _LOCAL_KEYS}
    return {**kept, "init_args": {k: v for k, v in block.get("init_args", {}).items() if k not in _LOCAL_KEYS}}
