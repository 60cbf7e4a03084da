"""Settings of jsonargparse for all verbs: bounded YAML, and no classes in values whose type does not declare one.

Create parsers from this module instead of jsonargparse; the settings are global to the process.
"""

from __future__ import annotations

from typing import Any

import yaml
from jsonargparse import ArgumentParser, get_loader, set_loader, set_parsing_settings

from nextgpt_pl.config.yaml_files import check_bounds

# no classes in values of type Any; an empty import_path_denylist enables jsonargparse's default one (os, ...)
set_parsing_settings(instantiate_subclass_spec_in_any=False, import_path_denylist=[])

_read = get_loader("yaml")


def _read_bounded(text: str) -> Any:
    if text == "None":
        # W&B's agents write null as None on command lines, and jsonargparse passes it to nested keys as None
        return None
    check_bounds(text)
    return _read(text)


#: parser mode that resolves ${...} after command-line overrides; mode "omegaconf" would resolve it before them
INTERPOLATING = "omegaconf+"

for _mode in ("yaml", INTERPOLATING):
    set_loader(_mode, _read_bounded, (yaml.YAMLError,))

__all__ = ["INTERPOLATING", "ArgumentParser"]
