"""Export adapters as official NExT-GPT checkpoints."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from nextgpt_pl.adapter import read_adapter
from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import GENERATED, MODALITIES, Modality
from nextgpt_pl.official.keys import EXTRA_TOKENS, SHARED_INPUT, Format, to_official
from nextgpt_pl.utils.atomic import atomic_file, write_atomic
from nextgpt_pl.utils.finite import check_finite

_V2_PARTS = {"mm_input_projector.bin": ".mm_input_projector.", "mm_output_projector.bin": ".mm_output_"}


def export_official(
    kind: Format, adapter: Path, out: Path, *, dtype: torch.dtype | None = None, llm: str | None = None
) -> list[Path]:
    """Write an adapter in an official format; an imported checkpoint is exported bit for bit.

    Legacy: ``pytorch_model.pt``. v2: ``mm_input_projector.bin`` and ``mm_output_projector.bin``, or with LoRA
    ``adapter_model.safetensors``, ``adapter_config.json`` and ``non_lora_trainables.bin``.

    Args:
        kind: the format.
        adapter: folder of the adapter, or of a run or import with one.
        out: output folder.
        dtype: dtype of the written tensors; by default that of the adapter.
        llm: hub id or folder of the LLM, whose vocabulary the official files contain; needed for adapters of this
            package's stages, which store the signal tokens' rows only.

    Returns:
        The files that were written.

    Raises:
        UserError: the adapter holds weights that the format cannot store, the LLM's vocabulary cannot be read, or a
            weight is not finite in ``dtype``.

    """
    folder = adapter / "adapter" if (adapter / "adapter").is_dir() else adapter
    manifest, tensors = read_adapter(folder)
    _check_tokens(kind, manifest, folder)
    tensors = _full_vocabulary(_shared_input(tensors), manifest, llm)
    state = to_official(tensors, kind)
    if dtype is not None:
        state = {key: tensor.to(dtype) for key, tensor in state.items()}
        check_finite(state, f"{out}: not written in {dtype}")  # large weights overflow in half precision
    out.mkdir(parents=True, exist_ok=True)
    if kind == "legacy":
        frozen = set(manifest.get("official", {}).get("frozen", []))
        parameters = {key: nn.Parameter(t, requires_grad=key not in frozen) for key, t in state.items()}
        _save(OrderedDict(parameters), out / "pytorch_model.pt")
        return [out / "pytorch_model.pt"]
    lora = manifest["llm"].get("lora")
    return _write_lora(out, state, lora, manifest["llm"]["path"]) if lora else _write_parts(out, state)


def _check_tokens(kind: Format, manifest: Mapping[str, Any], folder: Path) -> None:
    extra = tuple(manifest["llm"].get("extra_tokens", ()))
    if extra != EXTRA_TOKENS[kind]:
        raise UserError(
            f"{folder}: its LLM has the extra tokens {list(extra)}, the {kind} format {list(EXTRA_TOKENS[kind])}; "
            f"train with llm.extra_tokens set to these"
        )
    for modality in GENERATED:
        spec = MODALITIES[modality]
        count = len(manifest["signal_tokens"].get(modality.value, []))
        if count != spec.num_signal_tokens:
            raise UserError(f"{folder}: {count} signal tokens of {modality}; {kind} has {spec.num_signal_tokens}")


def _shared_input(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Merge the input projections of all media into one, if they are equal."""
    prefixes = [f"input_projections.{name}." for name in ("all", *Modality)]
    of_media = {p: {k.removeprefix(p): v for k, v in tensors.items() if k.startswith(p)} for p in prefixes}
    present = {prefix: part for prefix, part in of_media.items() if part}
    first = next(iter(present.values()), {})
    for prefix, part in present.items():
        if set(part) != set(first) or any(not torch.equal(part[name], first[name]) for name in part):
            raise UserError(
                f"the input projections differ ({prefix[:-1]}): the official formats have one for all media; "
                "train with network.share_input_projection: true"
            )
    others = {key: t for key, t in tensors.items() if not key.startswith("input_projections.")}
    return {**others, **{f"{SHARED_INPUT}.{name}": t for name, t in first.items()}}


def _full_vocabulary(tensors: dict[str, Tensor], manifest: Mapping[str, Any], llm: str | None) -> dict[str, Tensor]:
    """Add the LLM's own rows of embedding and head; the official formats store them with the signal tokens' rows."""
    incomplete = [key for key in tensors if key.endswith(".rows") and f"{key[:-4]}base.weight" not in tensors]
    if not incomplete:
        return tensors
    if llm is None:
        raise UserError(
            "the adapter has only the signal tokens' rows of the vocabulary; give --llm, the LLM that has the others"
        )
    from nextgpt_pl.llm import CausalLM

    model = CausalLM(llm, extra_tokens=manifest["llm"].get("extra_tokens"))
    model.load(len(tensors[incomplete[0]]))
    weights = dict(model.named_parameters(prefix="llm"))
    for key in incomplete:
        base = weights[f"{key[:-4]}base.weight"].detach()
        if base.shape != (manifest["llm"]["vocab_size"], tensors[key].shape[1]):
            expected = (manifest["llm"]["vocab_size"], tensors[key].shape[1])
            raise UserError(f"--llm {llm}: its vocabulary is {tuple(base.shape)}, that of the adapter {expected}")
        tensors[f"{key[:-4]}base.weight"] = base.to(tensors[key].dtype)
    return tensors


def _save(state: Mapping[str, Tensor], path: Path) -> None:
    with atomic_file(path) as scratch:
        torch.save(state, scratch)


def _write_parts(out: Path, state: Mapping[str, Tensor]) -> list[Path]:
    vocabulary = {k: t for k, t in state.items() if k in ("model.embed_tokens.weight", "lm_head.weight")}
    written = []
    for name, mark in _V2_PARTS.items():
        part = {key: tensor for key, tensor in state.items() if mark in key}
        if part:
            _save({**vocabulary, **part}, out / name)
            written.append(out / name)
    if not written:
        raise UserError("the adapter has no projection, and the v2 format stores nothing else without LoRA")
    return written


def _write_lora(out: Path, state: Mapping[str, Tensor], lora: Mapping[str, Any], llm: str) -> list[Path]:
    low_rank = {key: tensor.contiguous() for key, tensor in state.items() if ".lora_" in key}
    with atomic_file(out / "adapter_model.safetensors") as scratch:
        save_file(low_rank, scratch, metadata={"format": "pt"})
    _save({k: t for k, t in state.items() if ".lora_" not in k}, out / "non_lora_trainables.bin")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": llm,
        "r": lora["r"],
        "lora_alpha": lora["alpha"],
        "lora_dropout": lora["dropout"],
        "target_modules": list(lora["target_modules"]),
        "bias": "none",
        "inference_mode": True,
    }
    write_atomic(out / "adapter_config.json", json.dumps(config, indent=2) + "\n")
    return [out / name for name in ("adapter_model.safetensors", "adapter_config.json", "non_lora_trainables.bin")]
