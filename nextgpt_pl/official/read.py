"""Import of official NExT-GPT checkpoints.

``import`` writes a folder like a run's: ``adapter/`` for ``init_from``, ``config.yaml`` for :class:`AnyToAny`, and
``key_mapping.json``. Every trainable tensor of the checkpoint is mapped, or the import fails and names it.

The official code trains the full vocabulary, so its rows are imported too: the LLM's rows as the frozen matrix, the
last rows as those of the signal tokens. The v2 code puts spaces between signal tokens, which its projections read
too. ``NextGPT(signal_separator=ID)`` does the same; an import sets it only on request.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

import nextgpt_pl
from nextgpt_pl.adapter import FORMAT, write_adapter
from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import GENERATED
from nextgpt_pl.official.keys import EXTRA_TOKENS, SHARED_INPUT, Format, our_names, parts_of
from nextgpt_pl.official.network import NetworkPaths, network_config
from nextgpt_pl.official.parts import Sizes, sizes_of
from nextgpt_pl.utils.atomic import write_atomic
from nextgpt_pl.utils.finite import check_finite

_FILES: dict[Format, tuple[str, ...]] = {
    "legacy": ("pytorch_model",),
    "v2": ("mm_input_projector", "mm_output_projector", "non_lora_trainables", "adapter_model"),
}
_SUFFIXES = (".safetensors", ".bin", ".pt")
# defaults of the official code, for files without LoRA configuration
_LORA: dict[Format, dict[str, Any]] = {"legacy": {"alpha": 32, "dropout": 0.1}, "v2": {"alpha": 256, "dropout": 0.05}}


@dataclass
class Official:
    """An official checkpoint under this package's names.

    Attributes:
        kind: its format.
        tensors: tensors by this package's keys, in the file's dtype.
        mapping: per official key, its new keys, shape, dtype and file.
        frozen: official keys that the file marks as not trained.
        skipped: keys that no rule matches and that the file marks as not trained.
        lora: alpha and dropout.

    """

    kind: Format
    tensors: dict[str, Tensor] = field(default_factory=dict)
    mapping: dict[str, dict[str, Any]] = field(default_factory=dict)
    frozen: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    lora: dict[str, Any] = field(default_factory=dict)


def map_state(official: Official, state: Mapping[str, Tensor], file: str) -> None:
    """Add a file's tensors under this package's names.

    Raises:
        UserError: no rule matches a trainable key; the message names such keys.

    """
    unknown: list[str] = []
    for key, tensor in state.items():
        trains = tensor.requires_grad or not isinstance(tensor, nn.Parameter)
        names = our_names(key, official.kind)
        if names is None:
            (unknown if trains else official.skipped).append(key)
            continue
        if not trains:
            official.frozen.append(key)
        official.tensors.update(zip(names, parts_of(key, tensor, names), strict=True))
        shape, dtype = list(tensor.shape), str(tensor.dtype).removeprefix("torch.")
        official.mapping[key] = {"to": list(names), "shape": shape, "dtype": dtype, "file": file}
    if unknown:
        raise UserError(
            f"{file}: {len(unknown)} trainable keys are not of the {official.kind} format: {', '.join(unknown[:5])}"
        )


def read_official(kind: Format, paths: Sequence[Path]) -> Official:
    """Read a checkpoint's files; later files override earlier ones.

    Args:
        kind: ``legacy`` or ``v2``.
        paths: files, or folders that hold them under their official names.

    Raises:
        UserError: a path has no checkpoint, a file contains other objects than tensors, or no rule matches a key.

    """
    official = Official(kind, lora=dict(_LORA[kind]))
    for file in [file for path in paths for file in _files(kind, path)]:
        map_state(official, _load(file), file.name)
        config = file.parent / "adapter_config.json"
        if file.stem == "adapter_model" and config.is_file():
            settings = json.loads(config.read_text(encoding="utf-8"))
            official.lora = {"alpha": settings["lora_alpha"], "dropout": settings["lora_dropout"]}
    return official


def _files(kind: Format, path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder")
    files = []
    for name in _FILES[kind]:
        of_name = [path / f"{name}{suffix}" for suffix in _SUFFIXES if (path / f"{name}{suffix}").is_file()]
        files += of_name[:1]
    if not files:
        raise UserError(f"{path}: no {kind} checkpoint there; looked for {', '.join(_FILES[kind])} {_SUFFIXES}")
    return files


def _load(file: Path) -> Mapping[str, Tensor]:
    state: Any
    try:
        if file.suffix == ".safetensors":
            state = load_file(file)
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, KeyError, ValueError) as error:
        raise UserError(f"{file}: not a checkpoint that contains only tensors: {str(error).splitlines()[0]}") from error
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"{file}: a dictionary of tensors by name is expected")
    check_finite(state, str(file))
    return state


def import_official(
    kind: Format,
    paths: Sequence[Path],
    out: Path,
    *,
    network: NetworkPaths | None = None,
    vocab_size: int | None = None,
    separate_inputs: bool = False,
    signal_separator: int | None = None,
) -> dict[str, Any]:
    """Write ``out/adapter/``, ``out/config.yaml`` and ``out/key_mapping.json``; returns the mapping's record.

    Args:
        kind: ``legacy`` (``pytorch_model.pt``) or ``v2`` (projector ``.bin`` files, LoRA folders).
        paths: see :func:`read_official`.
        out: output folder.
        network: hub ids or folders of the frozen parts.
        vocab_size: number of the LLM's rows, if the checkpoint has no vocabulary; by default Vicuna's.
        separate_inputs: copy the input projection, which the official code shares, to one per medium.
        signal_separator: see :class:`NextGPT`; set it for checkpoints that were trained with spaces between the signal
            tokens.

    Raises:
        UserError: the checkpoint is not of this format or incomplete, or ``out`` has an adapter already.

    """
    paths_of_network = network or NetworkPaths.official(kind)
    if (out / "adapter").exists():
        raise UserError(f"--out {out}: the folder already has an adapter")
    official = read_official(kind, paths)
    sizes = sizes_of(official.tensors, kind, official.lora, vocab_size)
    tensors = _separated(official.tensors) if separate_inputs else official.tensors
    config = network_config(sizes, kind, paths_of_network, share_input_projection=not separate_inputs)
    if signal_separator is not None:
        config["model"]["init_args"]["network"]["init_args"]["signal_separator"] = signal_separator
    write_adapter(out / "adapter", tensors, _manifest(official, sizes, tensors, paths_of_network))
    record = {
        "format": kind,
        "files": sorted({row["file"] for row in official.mapping.values()}),
        "mapping": official.mapping,
        "frozen": official.frozen,
        "skipped": official.skipped,
    }
    write_atomic(out / "key_mapping.json", json.dumps(record, indent=1) + "\n")
    write_atomic(out / "config.yaml", yaml.safe_dump(config, sort_keys=False))
    return record


def _separated(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    copies = {
        key.replace(SHARED_INPUT, f"input_projections.{modality}"): tensor.clone()
        for key, tensor in tensors.items()
        if key.startswith(f"{SHARED_INPUT}.")
        for modality in GENERATED
    }
    return {**{key: t for key, t in tensors.items() if not key.startswith(f"{SHARED_INPUT}.")}, **copies}


def _manifest(official: Official, sizes: Sizes, tensors: Mapping[str, Tensor], network: NetworkPaths) -> dict[str, Any]:
    stage = f"official {official.kind}"
    return {
        "format": FORMAT,
        "nextgpt_pl": nextgpt_pl.__version__,
        "stage": stage,
        "stages": [stage],
        "llm": {
            "path": network.llm,
            "hidden_size": sizes.hidden_size,
            "vocab_size": sizes.vocab_size,
            "extra_tokens": list(EXTRA_TOKENS[official.kind]),
            "lora": sizes.lora,
        },
        "signal_tokens": sizes.signal_ids(),
        "embedding_shapes": {m.value: shape for m, shape in sizes.embedding_shapes().items()},
        "keys": sorted(tensors),
        "official": {"format": official.kind, "frozen": official.frozen},
    }
