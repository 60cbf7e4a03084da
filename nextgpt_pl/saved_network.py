"""The network of a saved run, without weights, from its configuration: to reply, not to train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nextgpt_pl.config.trust import instantiate
from nextgpt_pl.errors import UserError
from nextgpt_pl.model import NextGPT

_MEMORY_BYTES = 4 * 2**20  # per memory of features; a process that replies may run for long


def network_of(config: Mapping[str, Any], trust: Sequence[str] = ()) -> NextGPT:
    """The network of a run's resolved configuration, without weights and without its feature cache.

    Args:
        config: mapping read from YAML; untrusted, see :mod:`nextgpt_pl.config.trust`.
        trust: dotted names of classes and functions outside this package that it may name.

    Raises:
        UserError: it has no network, or names code that is not trusted.

    """
    try:
        network = config["model"]["init_args"]["network"]
    except (KeyError, TypeError):
        raise UserError("config.yaml has no model.init_args.network") from None
    if isinstance(network, Mapping):
        network = _in_memory(network)
    built = instantiate(network, NextGPT, "model.network", trust)
    assert isinstance(built, NextGPT)
    return built


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
