"""ImageBind (Girdhar et al. 2023, arXiv 2305.05665): six modalities in one embedding space.

Written from the paper and the names and shapes of the published weights: ``imagebind_huge.pth`` loads without
conversion, and the pocket encoder is the same class with smaller sizes. Shapes: N items, W tower width, D output width.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextgpt_pl.encoders.imagebind_parts import ImuStem, PatchStem, TextStem, Tower, VisionStem

MODALITIES = ("vision", "text", "audio", "depth", "thermal", "imu")


@dataclass(frozen=True)
class TowerConfig:
    """Sizes of one modality's transformer, its stem, and the scale of its output.

    ``scale`` multiplies the unit-length output (``None``: no scaling); upstream's audio has 20.
    """

    width: int
    blocks: int
    heads: int
    drop_path: float = 0.0
    scale: float | None = None


@dataclass(frozen=True)
class ImageBindConfig:
    """Sizes of all towers; modalities without a tower are not built."""

    out_dim: int
    towers: dict[str, TowerConfig]
    image_size: int = 224
    image_patch: int = 14
    clip_frames: int = 2
    mel_bins: int = 128
    mel_frames: int = 204
    mel_kernel: int = 16
    mel_stride: int = 10
    vocab_size: int = 49_408
    context_length: int = 77
    eos_token_id: int | None = None  # None: the highest id of a text, as in CLIP's vocabulary

    @classmethod
    def huge(cls, modalities: tuple[str, ...] = MODALITIES) -> ImageBindConfig:
        """The published model, 1.2B parameters with all towers."""
        towers = {
            "vision": TowerConfig(1280, 32, 16),
            "text": TowerConfig(1024, 24, 16, scale=1 / 0.07),
            "audio": TowerConfig(768, 12, 12, drop_path=0.1, scale=20.0),
            "depth": TowerConfig(384, 12, 8, scale=5.0),
            "thermal": TowerConfig(768, 12, 12, scale=10.0),
            "imu": TowerConfig(512, 6, 8, drop_path=0.7, scale=5.0),
        }
        return cls(1024, {name: towers[name] for name in modalities})

    @classmethod
    def pocket(cls, vocab_size: int, eos_token_id: int, context_length: int = 32) -> ImageBindConfig:
        """For 64x64 pictures and two seconds of sound, about 2.5M parameters."""
        return cls(
            out_dim=128,
            towers={
                "vision": TowerConfig(128, 4, 4),
                "text": TowerConfig(128, 3, 4),
                "audio": TowerConfig(128, 4, 4),
            },
            image_size=64,
            image_patch=8,
            mel_bins=64,
            mel_frames=200,
            mel_stride=16,
            vocab_size=vocab_size,
            context_length=context_length,
            eos_token_id=eos_token_id,
        )

    def patch_count(self, name: str) -> int:
        """Number of patches of one medium, or of one clip of it."""
        if name == "vision":
            return (self.image_size // self.image_patch) ** 2
        if name in ("depth", "thermal"):
            return (224 // 16) ** 2
        if name == "imu":
            return 250
        grid = ((side - self.mel_kernel) // self.mel_stride + 1 for side in (self.mel_bins, self.mel_frames))
        return math.prod(grid)

    def to_json(self, path: Path) -> None:
        """Write to a file."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def from_json(cls, path: Path) -> ImageBindConfig:
        """Read from a file."""
        values = json.loads(path.read_text())
        values["towers"] = {name: TowerConfig(**tower) for name, tower in values["towers"].items()}
        return cls(**values)


def _stem(name: str, config: ImageBindConfig, width: int) -> nn.Module:
    if name == "vision":
        return VisionStem(width, config.image_size, config.image_patch, config.clip_frames)
    if name == "text":
        return TextStem(width, config.vocab_size, config.context_length)
    if name == "imu":
        return ImuStem(width)
    if name == "audio":
        size, kernel, stride = (config.mel_bins, config.mel_frames), config.mel_kernel, config.mel_stride
    else:
        size, kernel, stride = (224, 224), 16, 16
    return PatchStem(width, size, kernel, stride, stem_name="depth_stem" if name == "depth" else "rgbt_stem")


class _SelectClass(nn.Module):
    """The class token."""

    def forward(self, tokens: Tensor) -> Tensor:
        """``(N, L, W)`` to ``(N, W)``."""
        return tokens[:, 0]


class _TextHead(nn.Module):
    """The end-of-text token, normalised and projected."""

    def __init__(self, width: int, out_dim: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(nn.LayerNorm(width, eps=1e-6), nn.Linear(width, out_dim, bias=False))


class _Scale(nn.Module):
    """A logit scale, stored as its logarithm; at most 100."""

    log_logit_scale: Tensor

    def __init__(self, scale: float, learnable: bool) -> None:
        super().__init__()
        value = torch.tensor(math.log(scale))
        if learnable:
            self.log_logit_scale = nn.Parameter(value)
        else:
            self.register_buffer("log_logit_scale", value)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply."""
        return self.log_logit_scale.exp().clamp(max=100) * x


def _head(name: str, width: int, out_dim: int) -> nn.Module:
    if name == "text":
        return _TextHead(width, out_dim)
    middle: list[nn.Module] = [_SelectClass(), nn.Dropout(0.5)] if name == "imu" else [_SelectClass()]
    return nn.Sequential(nn.LayerNorm(width, eps=1e-6), *middle, nn.Linear(width, out_dim, bias=False))


class ImageBindModel(nn.Module):
    """The towers that ``config`` names. Parameter names are those of the published weights."""

    def __init__(self, config: ImageBindConfig) -> None:
        super().__init__()
        self.config = config
        towers = config.towers.items()
        self.modality_preprocessors = nn.ModuleDict({n: _stem(n, config, t.width) for n, t in towers})
        self.modality_trunks = nn.ModuleDict(
            {
                n: Tower(
                    t.width,
                    t.blocks,
                    t.heads,
                    drop_path=t.drop_path,
                    bias_kv=n not in ("vision", "text"),
                    norm_first_tokens=n == "vision",
                )
                for n, t in towers
            }
        )
        self.modality_heads = nn.ModuleDict({n: _head(n, t.width, config.out_dim) for n, t in towers})
        self.modality_postprocessors = nn.ModuleDict(
            {
                n: nn.Sequential(nn.Identity(), _Scale(t.scale, learnable=n == "text"))
                for n, t in towers
                if t.scale is not None
            }
        )

    def features(self, name: str, inputs: Tensor) -> Tensor:
        """Outputs of the last block for all tokens, ``(N, tokens, W)``."""
        tokens, mask = self.modality_preprocessors[name](inputs)
        return self.modality_trunks[name](tokens, mask)

    def forward(self, name: str, inputs: Tensor, *, scale: bool = True, all_tokens: bool = False) -> Tensor:
        """Embeddings of unit length.

        Args:
            name: the tower.
            inputs: vision ``(N, 3, H, W)``, or with clips ``(N, S, 3, T, H, W)``; audio ``(N, S, 1, bins, frames)``;
                text ids ``(N, L)``; depth and thermal ``(N, 1, 224, 224)``; IMU ``(N, 6, 2000)``.
            scale: multiply by the modality's logit scale, as upstream does after normalising.
            all_tokens: every patch token instead of the class token (newer NExT-GPT).

        Returns:
            ``(N, D)``, or ``(N, tokens, D)``; clips are averaged after normalisation.

        """
        clips = inputs.shape[1] if inputs.ndim in (5, 6) and name in ("vision", "audio") else None
        flat = inputs.flatten(0, 1) if clips else inputs
        tokens = self.features(name, flat)
        head: Any = self.modality_heads[name]
        if name == "text":
            config = self.config
            ends = flat.argmax(-1) if config.eos_token_id is None else (flat == config.eos_token_id).int().argmax(-1)
            out = head.proj(tokens[torch.arange(len(tokens), device=tokens.device), ends])
        elif all_tokens:
            out = head[-1](head[0](tokens[:, 1:]))
        else:
            out = head(tokens)
        out = F.normalize(out, dim=-1)
        if scale and name in self.modality_postprocessors:
            out = self.modality_postprocessors[name](out)
        return out.unflatten(0, (-1, clips)).mean(1) if clips else out

    def load_published(self, weights: Mapping[str, Tensor]) -> None:
        """Load published weights; keys of towers that this model does not have are ignored.

        Raises:
            KeyError: a key of a tower of this model is missing, or a key belongs to no known tower.

        """
        known = set(MODALITIES)
        ours = {k: v for k, v in weights.items() if k.split(".")[1] in self.config.towers}
        unknown = [k for k in weights if k.split(".")[1] not in known]
        missing, unexpected = self.load_state_dict(ours, strict=False)
        if missing or unexpected or unknown:
            raise KeyError(f"ImageBind weights: missing {missing[:5]}, unexpected {[*unexpected, *unknown][:5]}")
