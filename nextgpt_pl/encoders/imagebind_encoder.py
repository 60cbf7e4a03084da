"""ImageBind as the model's encoder: prepares media, loads weights, computes features."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nextgpt_pl.encoders import preprocessing
from nextgpt_pl.encoders.base import Encoder, known_modalities
from nextgpt_pl.encoders.imagebind import MODALITIES, ImageBindConfig, ImageBindModel
from nextgpt_pl.errors import UserError, at_least
from nextgpt_pl.features.keys import file_sha256
from nextgpt_pl.media import reading as files
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import Media
from nextgpt_pl.utils.paths import resolve

VERSION = 1  # raise it when features change, also in imagebind.py or imagebind_parts.py; see nextgpt_pl.features.keys
TOWER = {
    Modality.IMAGE: "vision",
    Modality.VIDEO: "vision",
    Modality.AUDIO: "audio",
    Modality.DEPTH: "depth",
    Modality.THERMAL: "thermal",
    Modality.IMU: "imu",
}
PLANE = 224  # side of the depth and thermal towers' inputs, in pixels


class ImageBindEncoder(Encoder):
    """Frozen ImageBind: one feature per medium, or one per patch.

    Args:
        weights: ``imagebind_huge.pth``, a safetensors file, or a folder with ``config.json`` and
            ``model.safetensors`` such as ``pocket:encoder``; or the URL of such a file, which is downloaded once.
        modalities: supported modalities; image, video and audio by default; depth, thermal and IMU are optional. A
            tower that none of them needs is neither built nor read.
        sha256: expected SHA-256 of the weights file; required for a URL.
        video_clips: clips per video (upstream: 5, each in 3 crops).
        audio_clips: clips of two seconds per sound (upstream: 3).
        scale_logits: multiply features by the modality's logit scale, as the original ImageBind does for audio.
        patches: return every patch token instead of the class token, as NExT-GPT's later version does. Patch tokens
            keep positions; use a projection that reduces their number (grouping, Q-Former, transformer).

    """

    def __init__(
        self,
        weights: str,
        modalities: list[str] | None = None,
        sha256: str | None = None,
        video_clips: int = 5,
        audio_clips: int = 3,
        scale_logits: bool = True,
        patches: bool = False,
    ) -> None:
        super().__init__()
        if _is_url(weights) and sha256 is None:
            raise UserError(f"encoder.weights={weights!r}: a URL needs encoder.sha256, which verifies the download")
        at_least(1, encoder__video_clips=video_clips, encoder__audio_clips=audio_clips)
        self.modalities = known_modalities(modalities, [*TOWER])
        self.weights, self.sha256 = weights, sha256
        self.video_clips, self.audio_clips, self.scale_logits = video_clips, audio_clips, scale_logits
        self.patches = patches
        self.model: ImageBindModel | None = None

    def _paths(self) -> tuple[Path, ImageBindConfig]:
        if _is_url(self.weights):
            return downloaded_path(self.weights), ImageBindConfig.huge()
        path = Path(resolve(self.weights))
        if path.is_dir():
            return path / "model.safetensors", ImageBindConfig.from_json(path / "config.json")
        return path, ImageBindConfig.huge()

    @property
    def config(self) -> ImageBindConfig:
        """Sizes of the towers that the configured modalities need."""
        config = self._paths()[1]
        needed = {TOWER[m] for m in self.modalities}
        towers = {name: tower for name, tower in config.towers.items() if name in needed}
        if len(towers) < len(needed):
            missing = ", ".join(sorted(needed - set(towers)))
            raise UserError(f"encoder.weights={self.weights!r} has no tower for {missing}; it has {[*config.towers]}")
        return ImageBindConfig(**{**vars(config), "towers": towers})

    def width(self, _modality: Modality) -> int:
        """D, the same for all modalities."""
        return self.config.out_dim

    def tokens(self, modality: Modality) -> int:
        """1, or the number of the tower's patches; patches are averaged over clips."""
        return self.config.patch_count(TOWER[modality]) if self.patches else 1

    @property
    def source(self) -> str:
        """The configured weights."""
        return self.weights

    @property
    def loaded(self) -> bool:
        """Whether the towers are loaded."""
        return self.model is not None

    def producer(self, modality: Modality) -> dict[str, Any]:
        """Weights, sizes, number of clips, and versions of the code."""
        clips = {Modality.VIDEO: self.video_clips, Modality.AUDIO: self.audio_clips}
        return {
            "class": type(self).__name__,
            "weights": file_sha256(self._weights_file()),
            "config": asdict(self.config),
            "clips": clips.get(modality, 1),
            "scale_logits": self.scale_logits,
            "patches": self.patches,
            "version": VERSION,
            "preprocessing": preprocessing.VERSION,
        }

    def _weights_file(self) -> Path:
        path = self._paths()[0]
        if _is_url(self.weights) and not path.is_file():
            download(self.weights, path)
        if not path.is_file():
            raise UserError(f"encoder.weights={self.weights!r}: no such file: {path}")
        return path

    def load(self) -> None:
        """Build the towers and read their weights.

        Raises:
            UserError: the file is missing, has another hash, or does not fit.

        """
        self.model = ImageBindModel(self.config)
        if torch.get_default_device().type != "meta":
            try:
                self.model.load_published(self._read())
            except KeyError as error:
                raise UserError(f"encoder.weights={self.weights!r}: {error.args[0]}") from error
        self.model.requires_grad_(False).eval()

    def _read(self) -> dict[str, Tensor]:
        path = self._weights_file()
        if self.sha256 is not None:
            digest = file_sha256(path)
            if digest != self.sha256:
                raise UserError(
                    f"encoder.weights={self.weights!r}: the sha256 of {path} is {digest}, not {self.sha256}"
                )
        if path.suffix == ".safetensors":
            return self._read_safetensors(path)
        # memory-mapped, so weights of unused towers are not read from disk
        loaded: Any = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        return dict(loaded)

    def _read_safetensors(self, path: Path) -> dict[str, Tensor]:
        """All weights except those of known towers that are not used."""
        from safetensors import safe_open

        unused = set(MODALITIES) - set(self.config.towers)
        with safe_open(path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys() if key.split(".")[1] not in unused}  # noqa: SIM118

    def parameter_counts(self) -> dict[str, int]:
        """Parameters of each tower."""
        assert self.model is not None
        parts = [part for part in self.model.children() if isinstance(part, nn.ModuleDict)]
        return {
            tower: sum(p.numel() for part in parts if tower in part for p in part[tower].parameters())
            for tower in self.config.towers
        }

    def blocks(self) -> list[nn.Module]:
        """The transformer blocks of all towers."""
        if self.model is None:
            return []
        return [block for tower in self.model.modality_trunks.values() for block in tower.blocks]  # type: ignore[union-attr]

    def blank(self, modality: Modality) -> Tensor:
        """Zeros."""
        config = self.config
        side = (config.image_size, config.image_size)
        shapes = {
            Modality.IMAGE: (3, *side),
            Modality.VIDEO: (self.video_clips, 3, config.clip_frames, *side),
            Modality.AUDIO: (self.audio_clips, 1, config.mel_bins, config.mel_frames),
            Modality.DEPTH: (1, PLANE, PLANE),
            Modality.THERMAL: (1, PLANE, PLANE),
            Modality.IMU: (6, preprocessing.IMU_STEPS),
        }
        return torch.zeros(1, *shapes[modality])

    def prepare(self, media: Media) -> Tensor:
        """Image ``(3, H, W)``, video ``(clips, 3, T, H, W)``, audio ``(clips, 1, bins, frames)``.

        Depth and thermal ``(1, 224, 224)``, IMU ``(6, 2000)``.
        """
        config = self.config
        if media.modality is Modality.VIDEO:
            square = partial(preprocessing.square, size=config.image_size)
            frames = files.frames_of(media, self.video_clips * config.clip_frames, square)
            return preprocessing.video_clips(frames, config.image_size, self.video_clips, config.clip_frames)
        array, rate = files.array_of(media)
        match media.modality:
            case Modality.IMAGE:
                return preprocessing.picture(array, config.image_size)
            case Modality.AUDIO:
                rate, size = int(rate or preprocessing.SAMPLE_RATE), (config.mel_bins, config.mel_frames)
                return preprocessing.audio_clips(array, rate, self.audio_clips, 2.0, *size)
            case Modality.DEPTH:
                return preprocessing.depth_map(array, PLANE)
            case Modality.THERMAL:
                return preprocessing.thermal_map(array, PLANE)
        return preprocessing.motion(array)

    @torch.no_grad()
    def forward(self, modality: Modality, inputs: Tensor) -> Tensor:
        """``(N, ...)`` to ``(N, E, D)``."""
        assert self.model is not None
        features = self.model(TOWER[modality], inputs, scale=self.scale_logits, all_tokens=self.patches)
        return features if self.patches else features.unsqueeze(1)


def _is_url(weights: str) -> bool:
    return weights.startswith(("https://", "http://", "file://"))


def downloaded_path(url: str) -> Path:
    """Path of a downloaded URL in torch's cache (``TORCH_HOME``)."""
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]


def download(url: str, path: Path) -> None:
    """Download a URL to a file, atomically.

    Raises:
        UserError: the download fails.

    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(url, str(path), progress=False)
    except OSError as error:
        raise UserError(f"encoder.weights={url!r}: {error}; or download it and give the file's path") from error
