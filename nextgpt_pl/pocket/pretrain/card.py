"""The model card of the pocket weights, written from what was recorded and measured."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nextgpt_pl.pocket.parts import QUALITY
from nextgpt_pl.utils.escaping import markdown
from nextgpt_pl.utils.paths import CHAT, POCKET_PARTS, POCKET_SENSES

_CHAT = """## chat

The adapter `pocket:chat`, which `chat`, `generate`, `demo`, `serve`, `test` and `score` use if no run is given: stages
1 to 3 one after the other, on the pocket world, at length. ADAPTER is that of the run before.

```bash
python -m nextgpt_pl fit -c experiments/enc_align.yaml -c experiments/long/enc_align.yaml
python -m nextgpt_pl fit -c experiments/dec_align.yaml -c experiments/long/dec_align.yaml --model.init_from=ADAPTER
python -m nextgpt_pl fit -c experiments/instruct.yaml -c experiments/long/instruct.yaml --model.init_from=ADAPTER \\
  --trainer.max_steps=1400 --trainer.val_check_interval=700 --model.lr=1.5e-3
python -m nextgpt_pl fit -c experiments/instruct.yaml -c experiments/long/instruct.yaml --model.init_from=ADAPTER
python -m nextgpt_pl pocket pack --run RUN
python -m nextgpt_pl score && python -m nextgpt_pl pocket pack --scores outputs/chat/eval/pocket/scores.json
```

Half-precision weights of both kinds of projections, the signal tokens' rows and LoRA.
"""

_PARTS = (*POCKET_PARTS, *POCKET_SENSES)
_TOWER = "our `ImageBindModel` with one tower of width 64, bound to the encoder's text tower"
_CLASSES = {
    "llm": "`LlamaForCausalLM`, 6 layers of width 256, and its own byte-level BPE",
    "encoder": "our `ImageBindModel` with vision, audio and text towers of width 128",
    "image": "`StableDiffusionPipeline`: `AutoencoderKL` (64x64 to 8x8x12), `UNet2DConditionModel`, "
    "`CLIPTextModel` (32x128)",
    "video": "`TextToVideoSDPipeline`: the image decoder's VAE and text encoder, `UNet3DConditionModel`, 8 frames",
    "audio": "`AudioLDMPipeline`: `AutoencoderKL` over mel spectrograms, `UNet2DConditionModel`, "
    "`ClapTextModelWithProjection` (128), `SpeechT5HifiGan`",
    **dict.fromkeys(POCKET_SENSES, _TOWER),
}
_INTRODUCTION = """# Pocket weights

The frozen parts of the pocket tier: small models of the real classes, made from nothing by this project alone
(`python -m nextgpt_pl pocket pretrain [--part PART]`) on its own procedural world, each part by its command from the
start. Half-precision safetensors, read as float32. This page is written by `python -m nextgpt_pl pocket measure`.

Training data is drawn without end from the training split of `world.py`, rendered by `render.py` and worded by
`grammar.py`, `talk.py` and `users.py`. Measured is on held-out combinations of attributes, by `judge.py`, which reads
pixels and samples and knows no network. Intended use: to run and test this framework on a laptop. The models know
nothing but coloured shapes, their motions, and a few sounds.
"""


def write_quality(
    folder: Path, *, measured: Mapping[str, float | str], trained: Mapping[str, Mapping[str, float]] | None = None
) -> None:
    """Write a part's ``quality.json``; without ``trained``, the record of its training is unchanged."""
    file = folder / QUALITY
    record = json.loads(file.read_text()) if file.is_file() else {}
    if trained is not None:
        record = {"trained": dict(trained)}
    record["measured"] = dict(measured)
    file.write_text(json.dumps(record, indent=2) + "\n")


def write_card(root: Path) -> None:
    """Write ``README.md`` beside the weights' folder from the parts' records."""
    sections = [_INTRODUCTION, _sizes(root)]
    sections += [_section(root / part) for part in _PARTS if (root / part / QUALITY).is_file()]
    if (root / CHAT).is_dir():
        sections.append(_chat(root / CHAT))
    sections.append(_hashes(root))
    (root.parent / "README.md").write_text("\n".join(sections))


def _weights(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


def _parameters(file: Path) -> int:
    from safetensors import safe_open

    with safe_open(file, framework="numpy") as tensors:
        return sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118


def _sizes(root: Path) -> str:
    rows = ["| part | class | parameters | MB |", "| --- | --- | --- | --- |"]
    total = 0
    for part in (name for name in _PARTS if (root / name).is_dir()):
        files = _weights(root / part)
        size = sum(f.stat().st_size for f in files)
        total += size
        rows.append(f"| `{part}` | {_CLASSES[part]} | {sum(map(_parameters, files)):,} | {size / 1e6:.1f} |")
    rows.append(f"| all | | | {total / 1e6:.2f} |")
    return "\n".join([*rows, ""])


def _section(folder: Path) -> str:
    record: dict[str, Any] = json.loads((folder / QUALITY).read_text())
    lines = [f"## {folder.name}", ""]
    trained = record.get("trained", {})
    if trained:
        texts = (f"{markdown(n)} {t['steps']:,.0f} steps in {t['seconds'] / 60:.0f} min" for n, t in trained.items())
        steps = ", ".join(texts)
        lines += [f"Trained on one core each: {steps}.", ""]
    return "\n".join([*lines, *_measured("measured", record), ""])


def _measured(heading: str, record: Mapping[str, Any]) -> list[str]:
    """The lines of the table of what was measured: numbers, or results in words."""
    values = record.get("measured", {}).items()
    texts = ((name, markdown(v) if isinstance(v, str) else _number(name, v)) for name, v in values)
    return [f"| {heading} | |", "| --- | --- |", *(f"| {markdown(name)} | {text} |" for name, text in texts)]


def _chat(folder: Path) -> str:
    (file,) = _weights(folder)
    lines = [_CHAT, f"{_parameters(file):,} parameters, {file.stat().st_size / 1e6:.1f} MB.", ""]
    if (folder / QUALITY).is_file():
        lines += _measured("held-out dialogues", json.loads((folder / QUALITY).read_text()))
    return "\n".join([*lines, ""])


def _number(name: str, value: float) -> str:
    plain = ("seconds" in name, "perplexity" in name, "parameters" in name, name == "items")
    return f"{value:,.4g}" if any(plain) else f"{value:.1%}"


def _hashes(root: Path) -> str:
    rows = ["## Hashes", "", "```"]
    for file in (f for part in (*_PARTS, CHAT) for f in _weights(root / part)):
        rows += [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(root)}"]
    return "\n".join([*rows, "```", ""])
