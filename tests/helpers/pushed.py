"""A run that ``push`` has written for transformers, and transformers without network."""

from pathlib import Path

import demo_runs
import pytest

from nextgpt_pl.verbs.push import push


def pushed_folder(folder: Path) -> Path:
    """A run of :mod:`demo_runs` as ``push`` writes it."""
    (folder / "run").mkdir()
    return push(demo_runs.save_run(folder / "run"), "me/model", folder / "hub")


def offline(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Forbid transformers the network, and make it copy the code of folders to ``folder``."""
    patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    patch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(folder))
    patch.syspath_prepend(str(folder))
