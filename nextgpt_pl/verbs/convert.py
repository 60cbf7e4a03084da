"""``import`` and ``export``: official NExT-GPT checkpoints in and out."""

from __future__ import annotations

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
    """Make a run-like folder (adapter/, config.yaml, key_mapping.json) of an official checkpoint.

    Args:
        format: legacy is pytorch_model.pt; v2 is projector files and LoRA folders.
        paths: files or folders; of a key in several, the last one counts.
        out: the folder to make.
        llm: hub id or folder of the LLM; by default the official code's.
        image: hub id or folder of the image decoder; by default the official code's.
        video: hub id or folder of the video decoder; by default the official code's.
        audio: hub id or folder of the audio decoder; by default the official code's.
        encoder: file of ImageBind's weights; by default the official code's.
        dtype: of the frozen LLM and decoders; by default bfloat16.
        vocab_size: the LLM's own rows, where the checkpoint holds no vocabulary.
        separate_inputs: copy the shared input projection to one per medium.
        signal_separator: id of the blank between signal tokens, as v2 was trained with (29871).

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
    """The mapping in short: per part of the network, how many official keys and numbers went into it."""
    parts: dict[str, tuple[int, int]] = {}
    for row in record["mapping"].values():
        name = _part(row["to"][0])
        keys, numbers = parts.get(name, (0, 0))
        count = 1
        for side in row["shape"]:
            count *= side
        parts[name] = keys + 1, numbers + count
    lines = [f"  {name:<30} {keys:>5} keys {numbers:>15,} numbers" for name, (keys, numbers) in parts.items()]
    lines += [f"  left out, not trained: {key}" for key in record["skipped"]]
    if not any(".lm_head." in name for row in record["mapping"].values() for name in row["to"]):
        lines.append("  no LM head in it: the signal tokens' rows there keep their start values")
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
        adapter: an adapter, a run's folder or an import's.
        out: the folder to make; it must be empty.
        dtype: of the written tensors; by default as they are.
        llm: hub id or folder of the LLM, for adapters that hold the signal tokens' rows alone.

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
