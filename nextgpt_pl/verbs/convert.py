"""``import`` and ``export``: official NExT-GPT checkpoints in and out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from nextgpt_pl.errors import UserError
from nextgpt_pl.verbs.command import call

Format = Literal["legacy", "v2"]
DType = Literal["float32", "float16", "bfloat16"]
_EXAMPLES = """examples: import legacy ckpt/delta_ckpt/nextgpt/7b_tiva_v0 --out outputs/official; import v2 PRETRAIN_ENC
PRETRAIN_DEC FINETUNE --out outputs/official; then: chat --run outputs/official"""


def import_checkpoint(
    format: Format,
    paths: list[Path],
    out: Path,
    llm: str | None = None,
    image: str | None = None,
    video: str | None = None,
    audio: str | None = None,
    encoder: str | None = None,
    dtype: DType | None = None,
    vocab_size: int | None = None,
    separate_inputs: bool = False,
    signal_separator: int | None = None,
) -> None:
    """Convert an official checkpoint to a folder like a run's: adapter/, config.yaml, key_mapping.json.

    Args:
        format: legacy is pytorch_model.pt; v2 is projector files and LoRA folders.
        paths: files or folders of the checkpoint; later ones override keys of earlier ones.
        out: output folder.
        llm: hub id or folder of the LLM; by default that of the official code.
        image: hub id or folder of the image decoder; by default that of the official code.
        video: hub id or folder of the video decoder; by default that of the official code.
        audio: hub id or folder of the audio decoder; by default that of the official code.
        encoder: file of ImageBind's weights; by default that of the official code.
        dtype: dtype of the frozen LLM and decoders; by default bfloat16.
        vocab_size: vocabulary size of the LLM, if the checkpoint does not contain the vocabulary.
        separate_inputs: copy the shared input projection to one projection per modality.
        signal_separator: id of the token between signal tokens; v2 checkpoints were trained with the space (29871).

    """
    from nextgpt_pl.official.network import NetworkPaths
    from nextgpt_pl.official.read import import_official

    given = {"llm": llm, "image": image, "video": video, "audio": audio, "encoder": encoder, "dtype": dtype}
    known = {name: value for name, value in given.items() if value is not None}
    record = import_official(
        format,
        paths,
        out,
        network=replace(NetworkPaths.official(format), **known),
        vocab_size=vocab_size,
        separate_inputs=separate_inputs,
        signal_separator=signal_separator,
    )
    print("\n".join(report_lines(record)))
    print(f"{out}: adapter/, config.yaml, key_mapping.json")


def main_import(argv: Sequence[str]) -> int:
    """Parse and run ``import``."""
    call(import_checkpoint, argv, positional=["format", "paths"], epilog=_EXAMPLES)
    return 0


def report_lines(record: Mapping[str, Any]) -> list[str]:
    """A summary of the mapping: number of official keys and parameters per part of the network, and skipped keys."""
    parts: dict[str, tuple[int, int]] = {}
    for row in record["mapping"].values():
        name = _part(row["to"][0])
        keys, parameters = parts.get(name, (0, 0))
        parts[name] = keys + 1, parameters + math.prod(row["shape"])
    lines = [f"  {name:<30} {keys:>5} keys {count:>15,} parameters" for name, (keys, count) in parts.items()]
    lines += [f"  skipped, not trained: {key}" for key in record["skipped"]]
    if not any(".lm_head." in name for row in record["mapping"].values() for name in row["to"]):
        lines.append("  the checkpoint has no LM head: the head's rows of the signal tokens keep their initial values")
    return [f"{record['format']} checkpoint, {len(record['mapping'])} keys mapped:", *lines]


def _part(key: str) -> str:
    if ".lora_" in key:
        return "llm LoRA"
    if key.startswith("llm."):
        return "llm vocabulary"
    return ".".join(key.split(".")[:2]) if key.startswith("output") else "input_projection"


def export_checkpoint(
    format: Format, adapter: Path, out: Path, dtype: DType | None = None, llm: str | None = None
) -> None:
    """Write an adapter as an official checkpoint.

    Args:
        format: legacy is pytorch_model.pt; v2 is projector files and LoRA folders.
        adapter: folder of an adapter, a run or an imported checkpoint.
        out: output folder; it must be empty or missing.
        dtype: dtype of the written tensors; by default that of the adapter.
        llm: hub id or folder of the LLM; needed if the adapter holds only the signal tokens' rows of the vocabulary.

    Raises:
        UserError: the folder is not empty, or the adapter cannot be written in this format.

    """
    import torch

    from nextgpt_pl.official.export import export_official

    if out.exists() and any(out.iterdir()):
        raise UserError(f"--out {out}: the folder is not empty")
    for file in export_official(format, adapter, out, dtype=getattr(torch, dtype) if dtype else None, llm=llm):
        print(file)


def main_export(argv: Sequence[str]) -> int:
    """Parse and run ``export``."""
    call(export_checkpoint, argv, positional=["format", "adapter"])
    return 0
