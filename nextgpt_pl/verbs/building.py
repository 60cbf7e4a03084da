"""``data build``: build a data set of dialogues by an LLM and sources of media."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from nextgpt_pl.config.errors import config_files, parse_errors
from nextgpt_pl.config.yaml_files import check_files, read_yaml
from nextgpt_pl.errors import UserError, at_least
from nextgpt_pl.utils.atomic import write_atomic
from nextgpt_pl.utils.processes import terminable
from nextgpt_pl.verbs.command import helped, options_of

_SETTINGS = "build.yaml"
# keys that may change when a build is continued: they do not change what a dialogue is
_FREE = ("count", "max_dropped", "tries")
_FREE_OF_ENDPOINT = ("base_url", "key_variable", "input_price", "output_price", "concurrency", "timeout", "repeats")


@dataclass
class BuildOptions:
    """Options of ``data build``; the other arguments are keys of the YAML, such as ``--count=100``.

    Args:
        out: folder of the data set; by default outputs/build/NAME, by the YAML's name.
        limit: highest number of dialogues that this call adds.
        dry_run: print the first prompt and an estimate of the cost, and request nothing.

    """

    out: Path | None = None
    limit: int | None = None
    dry_run: bool = False

    def __post_init__(self) -> None:
        at_least(0, **{"--limit": self.limit})


def build(arguments: Sequence[str]) -> int:
    """Run ``data build -c FILE``; the same command continues an interrupted build.

    Returns:
        0; 130 if it was interrupted.

    Raises:
        UserError: the configuration is invalid, the folder has a build with other settings, or the endpoint fails.

    """
    if helped(arguments, "data build", BuildOptions):
        return 0
    parser, config = _parsed(_with_flag(arguments))
    options = options_of(config, BuildOptions)
    made = _instantiated(parser, config)
    if options.dry_run:
        print(made.preview())
        return 0
    folder = options.out or Path("outputs/build") / config_files(arguments)[-1].stem
    _pin(_settings(parser, config), folder)
    try:
        with terminable():
            made.run(folder, options.limit)
    except KeyboardInterrupt:
        print("interrupted; the same command continues")
        return 130
    return 0


def _with_flag(arguments: Sequence[str]) -> list[str]:
    """``--dry_run`` and ``--dry-run`` alone stand for ``--dry_run=true``."""
    return ["--dry_run=true" if argument in ("--dry_run", "--dry-run") else argument for argument in arguments]


def _parsed(arguments: Sequence[str]) -> tuple[Any, Any]:
    from nextgpt_pl.building import Build
    from nextgpt_pl.config.parsers import INTERPOLATING, ArgumentParser

    for file in config_files(arguments):
        check_files(file)
    parser = ArgumentParser(prog="nextgpt_pl data build", exit_on_error=False, parser_mode=INTERPOLATING)
    parser.add_argument("-c", "--config", action="config")
    parser.add_class_arguments(Build)
    parser.add_class_arguments(BuildOptions, instantiate=False)
    with parse_errors():
        return parser, parser.parse_args(list(arguments))


def _instantiated(parser: Any, config: Any) -> Any:
    from nextgpt_pl.building import Build

    return options_of(parser.instantiate(config), Build)


def _settings(parser: Any, config: Any) -> dict[str, Any]:
    """The settings that determine the data set."""
    settings = yaml.safe_load(parser.dump(config, skip_unset=False))
    for name in (*_FREE, "out", "limit", "dry_run", "config"):
        settings.pop(name, None)
    for name in _FREE_OF_ENDPOINT:
        settings["endpoint"]["init_args"].pop(name, None)
    return settings


def _pin(settings: Mapping[str, Any], folder: Path) -> None:
    """Write the settings to the folder; refuse a folder with others."""
    file = folder / _SETTINGS
    if file.is_file():
        known = read_yaml(file)
        known = known if isinstance(known, dict) else {}
        if different := [key for key in {**known, **settings} if known.get(key) != settings.get(key)]:
            raise UserError(
                f"{folder}: a build with other settings ({', '.join(different)}); give another --out, or remove it"
            )
    write_atomic(file, yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True))
