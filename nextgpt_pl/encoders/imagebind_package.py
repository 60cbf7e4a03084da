"""Upstream's ImageBind network (extra ``imagebind``), to compare this package's implementation with.

Its licence is non-commercial (CC BY-NC-SA 4.0). Only its networks are used. Media are prepared by this package, since
upstream's preprocessing cannot be imported with current libraries.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from typing import Any

import torch
from torch import Tensor, nn

from nextgpt_pl.encoders.imagebind import MODALITIES, ImageBindConfig, TowerConfig
from nextgpt_pl.encoders.imagebind_encoder import TOWER, ImageBindEncoder
from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import Modality

_UNUSED = TowerConfig(width=8, blocks=1, heads=1)  # upstream builds all towers; unused ones are deleted


def upstream_module() -> Any:
    """The package's module of networks.

    ``import imagebind`` fails because of imports in its ``__init__``, so the submodule is imported without it.

    Raises:
        UserError: the package or one that it needs is not installed.

    """
    if "imagebind" not in sys.modules:
        spec = importlib.util.find_spec("imagebind")
        if spec is None or spec.submodule_search_locations is None:
            raise UserError(
                "upstream's ImageBind is not installed: pip install 'nextgpt-pl[imagebind]'"
                " && pip install --no-deps imagebind-unofficial"
            )
        package = types.ModuleType("imagebind")
        package.__path__ = list(spec.submodule_search_locations)
        sys.modules["imagebind"] = package
    try:
        return importlib.import_module("imagebind.models.imagebind_model")
    except ImportError as error:
        raise UserError(f"upstream's ImageBind needs {error.name}, which is not installed: {error}") from error


def upstream_network(config: ImageBindConfig) -> nn.Module:
    """Upstream's network with the sizes and towers of ``config``.

    Raises:
        UserError: upstream has no argument for a size.

    """
    fixed = {"image_size": 224, "vocab_size": 49_408, "context_length": 77, "eos_token_id": None}
    for name, value in fixed.items():
        if getattr(config, name) != value:
            raise UserError(
                f"upstream's ImageBind supports only {name}={value}; these weights have {getattr(config, name)}"
            )
    sizes: dict[str, Any] = {}
    for name in MODALITIES:
        tower = config.towers.get(name, _UNUSED)
        sizes |= {
            f"{name}_embed_dim": tower.width,
            f"{name}_num_blocks": tower.blocks,
            f"{name}_num_heads": tower.heads,
        }
    model: nn.Module = upstream_module().ImageBindModel(
        video_frames=config.clip_frames,
        kernel_size=(config.clip_frames, config.image_patch, config.image_patch),
        audio_kernel_size=config.mel_kernel,
        audio_stride=config.mel_stride,
        audio_num_mel_bins=config.mel_bins,
        audio_target_len=config.mel_frames,
        out_embed_dim=config.out_dim,
        **sizes,
    )
    for part in model.children():
        assert isinstance(part, nn.ModuleDict)
        for name in set(MODALITIES) - set(config.towers):
            if name in part:
                del part[name]
    return model


class ImageBindPackageEncoder(ImageBindEncoder):
    """Upstream's ImageBind; arguments are those of :class:`ImageBindEncoder`.

    ``patches`` is not supported: upstream returns the class token only.
    """

    def load(self) -> None:
        """Build upstream's network and read the weights.

        Raises:
            UserError: the package is not installed, does not support the sizes, or the weights do not fit.

        """
        if self.patches:
            raise UserError("encoder.patches: upstream's package returns the class token only; use ImageBindEncoder")
        network = upstream_network(self.config)
        if torch.get_default_device().type != "meta":
            weights = {k: v for k, v in self._read().items() if k.split(".")[1] in self.config.towers}
            missing, unexpected = network.load_state_dict(weights, strict=False)
            if missing or unexpected:
                raise UserError(f"encoder.weights={self.weights!r}: missing {missing[:5]}, unexpected {unexpected[:5]}")
        if not self.scale_logits:
            last = network.modality_postprocessors
            assert isinstance(last, nn.ModuleDict)
            for name, steps in last.items():
                if isinstance(steps, nn.Sequential):  # normalise, then scale
                    last[name] = steps[0]
        self.model = network.requires_grad_(False).eval()  # type: ignore[assignment]

    @torch.no_grad()
    def forward(self, modality: Modality, inputs: Tensor) -> Tensor:
        """``(N, ...)`` to ``(N, 1, D)``; upstream averages over clips."""
        assert self.model is not None
        name = TOWER[modality]
        features: Tensor = self.model({name: inputs})[name]
        return features.unsqueeze(1)
