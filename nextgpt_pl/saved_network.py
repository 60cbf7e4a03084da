"""The network of a saved run, from its folder or a hub repository: to reply, not to train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nextgpt_pl.adapter import load_adapter
from nextgpt_pl.config.trust import foreign_names, instantiate
from nextgpt_pl.config.yaml_files import read_yaml
from nextgpt_pl.errors import UserError
from nextgpt_pl.model import NextGPT
from nextgpt_pl.utils.paths import run_folder

_WHERE = "model.network"
_MEMORY_BYTES = 4 * 2**20  # per memory of features; a process that replies may run for long


def loaded_network(folder: Path, trust: Sequence[str] = ()) -> NextGPT:
    """The network of a run's folder, with its weights and adapter.

    Args:
        folder: has ``config.yaml`` and ``adapter/``.
        trust: see :func:`network_of`.

    Raises:
        UserError: the folder is not a run, names code that is not trusted, or its adapter does not fit.

    """
    network = network_of(saved_config(folder), trust)
    network.load()
    load_adapter(folder / "adapter", network)
    return network


def saved_config(folder: Path) -> Any:
    """The content of a run's ``config.yaml``.

    Raises:
        UserError: the folder is not a run.

    """
    config = folder / "config.yaml"
    if not config.is_file() or not (folder / "adapter").is_dir():
        raise UserError(f"run={str(folder)!r}: no config.yaml and adapter/ in it; give a run folder of outputs/")
    return read_yaml(config)


def local_folder(name: str | Path, revision: str | None = None, **options: Any) -> Path:
    """A run's folder, or the downloaded files of a hub repository. Code in the repository is not downloaded.

    Args:
        name: a folder, ``pocket:chat``, or ``user/name`` on the hub.
        revision: of the hub repository.
        options: further arguments of ``snapshot_download``.

    Raises:
        UserError: there is no such folder, and the download failed.

    """
    if run_folder(name).is_dir():
        return run_folder(name)
    from huggingface_hub import snapshot_download

    try:
        patterns = ["config.yaml", "adapter/*"]
        return Path(snapshot_download(str(name), revision=revision, allow_patterns=patterns, **options))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{str(name)!r}: no such folder, and its download failed: {reason}") from error


def network_of(config: Mapping[str, Any], trust: Sequence[str] = ()) -> NextGPT:
    """The network of a run's resolved configuration, without weights and without its feature cache.

    Args:
        config: mapping read from YAML; untrusted, see :mod:`nextgpt_pl.config.trust`.
        trust: dotted names of classes and functions outside this package that it may name.

    Raises:
        UserError: it has no network, or names code that is not trusted.

    """
    built = instantiate(_network_block(config), NextGPT, _WHERE, trust)
    assert isinstance(built, NextGPT)
    return built


def foreign_classes(config: Mapping[str, Any]) -> list[str]:
    """The classes and functions outside this package that the network of a run's configuration names.

    Raises:
        UserError: the configuration is invalid.

    """
    return foreign_names(_network_block(config), NextGPT, _WHERE)


def _network_block(config: Mapping[str, Any]) -> Any:
    try:
        network = config["model"]["init_args"]["network"]
    except (KeyError, TypeError):
        raise UserError("config.yaml has no model.init_args.network") from None
    return _in_memory(network) if isinstance(network, Mapping) else network


def _in_memory(network: Mapping[str, Any]) -> Mapping[str, Any]:
    """A network's block without its cache, which is a folder of the machine that trained it, and with a small memory.

    The arguments are in ``init_args``, or are the block itself.
    """
    if not network.keys() & {"class_path", "init_args"}:
        return {**network, "cache": None, "memory": _MEMORY_BYTES}
    given = network.get("init_args")
    if not isinstance(given, Mapping):
        return network
    return {**network, "init_args": _in_memory(given)}
