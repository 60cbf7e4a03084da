"""An adapter: a folder with ``adapter.safetensors`` (trained weights only) and ``manifest.json``.

The manifest describes the model that the weights fit: base model, vocabulary size, token ids, widths. A stage starts
from the adapter of the previous one. A key that is missing, unexpected or of another shape is an error.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

import nextgpt_pl
from nextgpt_pl.errors import UserError
from nextgpt_pl.features.keys import file_sha256
from nextgpt_pl.llm import LoRA
from nextgpt_pl.modality import MODALITIES, Modality
from nextgpt_pl.model import NextGPT
from nextgpt_pl.utils.atomic import atomic_file, write_atomic
from nextgpt_pl.utils.distributed import communication_device, full_tensor, rank
from nextgpt_pl.utils.finite import check_finite

WEIGHTS, MANIFEST = "adapter.safetensors", "manifest.json"
FORMAT = 1


class _BaseModel(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    path: str
    hidden_size: int
    vocab_size: int
    lora: dict[str, int | float | list[str]] | None = None


class _Manifest(BaseModel):
    """The entries that are read."""

    model_config = ConfigDict(extra="allow", strict=True)

    format: int
    llm: _BaseModel
    signal_tokens: dict[str, list[int]]
    embedding_shapes: dict[str, list[int]] = {}
    stage: str
    stages: list[str]
    keys: list[str]
    sha256: str | None = None


def manifest_of(network: NextGPT, keys: Iterable[str], stage: str, history: list[str]) -> dict[str, Any]:
    """Description of the model that the weights ``keys`` fit, as plain data."""
    names = sorted(keys)
    return {
        "format": FORMAT,
        "nextgpt_pl": nextgpt_pl.__version__,
        "stage": stage,
        "stages": [*history, stage],
        "llm": {
            "path": network.llm.path,
            "hidden_size": network.llm.hidden_size,
            "vocab_size": network.llm.vocab_size,
            "extra_tokens": network.llm.extra_tokens,
            "lora": network.llm.lora if any("lora_" in key for key in names) else None,
        },
        "signal_tokens": {m.value: ids for m, ids in network.signal_ids().items()},
        "embedding_shapes": {m.value: list(d.embedding_shape) for m, d in network.embedded.items()},
        "keys": names,
    }


def save_adapter(
    folder: Path, network: NextGPT, keys: Iterable[str], *, stage: str, history: list[str] | None = None
) -> None:
    """Write the parameters named ``keys`` and the manifest.

    Collective: all ranks call this. Sharded parameters are gathered as full tensors, and rank 0 writes.

    Raises:
        UserError: a weight is not finite; nothing is written.

    """
    parameters, device = dict(network.named_parameters()), communication_device()
    tensors = {key: full_tensor(parameters[key], device).contiguous() for key in keys}
    if rank() == 0:
        write_adapter(folder, tensors, manifest_of(network, tensors, stage, history or []))
    else:
        check_finite(tensors, f"{folder}: not written")  # the same check as on rank 0, so that all ranks stop or none


def write_adapter(folder: Path, tensors: dict[str, Tensor], manifest: dict[str, Any]) -> None:
    """Write both files, each atomically; the manifest holds the hash of the weights' file.

    Raises:
        UserError: a weight is not finite; nothing is written.

    """
    check_finite(tensors, f"{folder}: not written")
    with atomic_file(folder / WEIGHTS) as scratch:
        save_file(tensors, scratch)
        manifest = {**manifest, "sha256": file_sha256(scratch)}
    write_atomic(folder / MANIFEST, json.dumps(manifest, indent=2) + "\n")


def read_adapter(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Manifest and tensors of an adapter.

    Raises:
        UserError: the folder is not an adapter, its files cannot be read, are not those that were written, or a weight
            is not finite.

    """
    manifest = read_manifest(folder)
    if not (folder / WEIGHTS).is_file():
        raise _no_adapter(folder)
    try:
        tensors = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(folder, WEIGHTS, str(error)) from error
    check_finite(tensors, f"init_from={str(folder)!r}")
    # adapters of earlier versions have no hash
    if manifest.get("sha256") not in (None, file_sha256(folder / WEIGHTS)):
        raise _damaged(folder, WEIGHTS, f"its SHA-256 is not the one in {MANIFEST}")
    return manifest, tensors


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an adapter; its weights are not read and need not be there.

    Raises:
        UserError: the folder is not an adapter, or the manifest is damaged; the message names the entry.

    """
    if not (folder / MANIFEST).is_file():
        raise _no_adapter(folder)
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        _Manifest.model_validate(manifest)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise _damaged(folder, MANIFEST, f"{where}: {first['msg']}, got {first['input']!r:.80}") from error
    except (ValueError, OSError, RecursionError) as error:
        raise _damaged(folder, MANIFEST, str(error)) from error
    return dict(manifest)


def _no_adapter(folder: Path) -> UserError:
    return UserError(f"init_from={str(folder)!r}: no adapter there ({MANIFEST} and {WEIGHTS} are expected)")


def _damaged(folder: Path, file: str, reason: str) -> UserError:
    return UserError(f"init_from={str(folder)!r}: the adapter is damaged: {file}: {reason}")


def load_adapter(folder: Path, network: NextGPT) -> dict[str, Any]:
    """Copy an adapter's weights into a loaded network and return its manifest.

    If the network is on the meta device, the modules that the manifest describes are added but no weights are read.

    Raises:
        UserError: the folder is not an adapter, or its weights do not fit this network; the message names each key.

    """
    if any(p.is_meta for p in network.parameters()):
        manifest = read_manifest(folder)
        _add_lora(folder, manifest, network)
        return manifest
    manifest, tensors = read_adapter(folder)
    _add_lora(folder, manifest, network, tensors)
    tensors = with_new_rows(manifest, tensors, network)
    problems = mismatches(manifest, tensors, network)
    if problems:
        listed = "\n  ".join(problems)
        raise UserError(f"init_from={str(folder)!r} does not fit this model:\n  {listed}")
    parameters = dict(network.named_parameters())
    with torch.no_grad():
        for key, tensor in tensors.items():
            parameters[key].copy_(tensor)
    return dict(manifest)


def _add_lora(
    folder: Path, manifest: Mapping[str, Any], network: NextGPT, tensors: Mapping[str, Tensor] | None = None
) -> None:
    """Add the low-rank updates that the manifest describes; refused if ``tensors``, if given, have another rank."""
    if manifest["llm"].get("lora") is None:
        return
    ranks = {len(tensor) if tensor.ndim else 0 for key, tensor in (tensors or {}).items() if ".lora_A." in key}
    try:
        lora = LoRA(**manifest["llm"]["lora"])
        fits = tensors is None or ranks == {lora.r}
        if fits:
            network.llm.add_lora(lora)
    except TypeError as error:
        raise _damaged(folder, MANIFEST, f"llm.lora: {error}") from error
    except UserError as error:
        raise UserError(f"init_from={str(folder)!r}: {error}") from error
    if not fits:
        raise _damaged(folder, MANIFEST, f"llm.lora.r={lora.r}, but the weights have the ranks {sorted(ranks)}")


def with_new_rows(manifest: dict[str, Any], tensors: dict[str, Tensor], network: NextGPT) -> dict[str, Tensor]:
    """Append the network's own rows of signal tokens whose optional modality the adapter does not have."""
    known = sum(len(ids) for ids in manifest["signal_tokens"].values())
    new = sum(len(ids) for m, ids in network.signal_ids().items() if _is_new(m, manifest))
    parameters = dict(network.named_parameters())
    return {
        key: torch.cat([tensor, parameters[key][known:].detach().to(tensor)])
        if key.endswith(".rows") and len(tensor) == known and key in parameters and len(parameters[key]) == known + new
        else tensor
        for key, tensor in tensors.items()
    }


def _is_new(modality: Modality, manifest: dict[str, Any]) -> bool:
    return MODALITIES[modality].optional and modality.value not in manifest["signal_tokens"]


def mismatches(manifest: dict[str, Any], tensors: dict[str, Tensor], network: NextGPT) -> list[str]:
    """Reasons why weights and their manifest do not fit a loaded network, one line each."""
    problems = []
    if manifest["format"] != FORMAT:
        problems.append(f"its format is {manifest['format']}, this version reads {FORMAT}")
    expected = {"hidden_size": network.llm.hidden_size, "vocab_size": network.llm.vocab_size}
    for name, value in expected.items():
        if manifest["llm"][name] != value:
            problems.append(f"llm {name}: {manifest['llm'][name]} there, {value} here ({network.llm.path})")
    for modality, ids in network.signal_ids().items():
        if manifest["signal_tokens"].get(modality.value) != ids and not _is_new(modality, manifest):
            problems.append(
                f"signal tokens of {modality}: {manifest['signal_tokens'].get(modality.value)} there, {ids} here"
            )
    problems += [f"{key}: missing, though the manifest lists it" for key in manifest["keys"] if key not in tensors]
    parameters = dict(network.named_parameters())
    for key, tensor in tensors.items():
        if key not in parameters:
            problems.append(f"{key}: unexpected, this model has no such parameter")
        elif parameters[key].shape != tensor.shape:
            problems.append(f"{key}: {tuple(tensor.shape)} there, {tuple(parameters[key].shape)} here")
    return problems
