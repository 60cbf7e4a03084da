"""How jsonargparse reads values, in every verb: within bounds, and never a class where the type says nothing of one.

Import this module in place of making parsers from jsonargparse alone; its settings are the process's.
"""

from __future__ import annotations

from typing import Any

import yaml
from jsonargparse import ArgumentParser, get_loader, set_loader, set_parsing_settings

from nextgpt_pl.yaml_files import check_bounds

# no class inside a value of type Any; no process, file or import of Python's own library as a class or function
set_parsing_settings(instantiate_subclass_spec_in_any=False, import_path_denylist=[])

_read = get_loader("yaml")


def _read_bounded(text: str) -> Any:
    if text == "None":
        # so W&B's agents write null on command lines, and so jsonargparse hands it on to nested keys
        return None
    check_bounds(text)
    return _read(text)


#: resolves ${...} after the command line was read; omegaconf resolves before: a sweep would lie
INTERPOLATING = "omegaconf+"

for _mode in ("yaml", INTERPOLATING):
    set_loader(_mode, _read_bounded, (yaml.YAMLError,))

__all__ = ["INTERPOLATING", "ArgumentParser"]
