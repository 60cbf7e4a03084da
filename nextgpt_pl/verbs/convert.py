"""``import`` and ``export``: official NExT-GPT checkpoints in and out."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from nextgpt_pl.errors import UserError

_FORMATS = ("legacy", "v2")
_DTYPES = ("float32", "float16", "bfloat16")
_EXAMPLES = """examples:
  python -m nextgpt_pl import legacy ckpt/delta_ckpt/nextgpt/7b_tiva_v0 --out outputs/official
  python -m nextgpt_pl import v2 PRETRAIN_ENC PRETRAIN_DEC FINETUNE --out outputs/official
  python -m nextgpt_pl chat --run outputs/official"""
_PATHS = ("llm", "image", "video", "audio", "encoder")


def _import_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nextgpt_pl import",
        description="Make a run-like folder (adapter/, config.yaml, key_mapping.json) of an official checkpoint.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("format", choices=_FORMATS, help="legacy: pytorch_model.pt; v2: projector files, LoRA folders")
    parser.add_argument(
        "paths", nargs="+", type=Path, help="files or folders; of a key in several, the last one counts"
    )
    parser.add_argument("--out", required=True, type=Path, help="the folder to make")
    for name in _PATHS:
        parser.add_argument(f"--{name}", help=f"hub id or folder of the {name}; by default the official code's")
    parser.add_argument("--dtype", choices=_DTYPES, help="of the frozen LLM and decoders (bfloat16)")
    parser.add_argument("--vocab_size", type=int, help="the LLM's own rows, where the checkpoint holds no vocabulary")
    parser.add_argument(
        "--separate_inputs", action="store_true", help="copy the shared input projection to one per medium"
    )
    parser.add_argument(
        "--signal_separator", type=int, help="id of the blank between signal tokens, as v2 was trained with (29871)"
    )
    return parser


def main_import(argv: Sequence[str]) -> int:
    """Parse and run ``import``."""
    options = _import_parser().parse_args(argv[1:])
    from nextgpt_pl.official.network import NetworkPaths
    from nextgpt_pl.official.read import import_official

    given = {f.name: getattr(options, f.name) for f in fields(NetworkPaths) if getattr(options, f.name) is not None}
    network = NetworkPaths(**{**vars(NetworkPaths.official(options.format)), **given})
    record = import_official(
        options.format,
        options.paths,
        options.out,
        network=network,
        vocab_size=options.vocab_size,
        separate_inputs=options.separate_inputs,
        signal_separator=options.signal_separator,
    )
    print("\n".join(report_lines(record)))
    print(f"{options.out}: adapter/, config.yaml, key_mapping.json")
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


def _export_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nextgpt_pl export", description="Write an adapter as an official checkpoint."
    )
    parser.add_argument("format", choices=_FORMATS)
    parser.add_argument("adapter", type=Path, help="an adapter, a run's folder or an import's")
    parser.add_argument("--out", required=True, type=Path, help="the folder to make")
    parser.add_argument("--dtype", choices=_DTYPES, help="of the written tensors; by default as they are")
    parser.add_argument(
        "--llm", help="hub id or folder of the LLM, for adapters that hold the signal tokens' rows alone"
    )
    return parser


def main_export(argv: Sequence[str]) -> int:
    """Parse and run ``export``."""
    options = _export_parser().parse_args(argv[1:])
    import torch

    from nextgpt_pl.official.export import export_official

    if options.out.exists() and any(options.out.iterdir()):
        raise UserError(f"--out {options.out}: the folder is not empty")
    dtype = getattr(torch, options.dtype) if options.dtype else None
    for file in export_official(options.format, options.adapter, options.out, dtype=dtype, llm=options.llm):
        print(file)
    return 0
