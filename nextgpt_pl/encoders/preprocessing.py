"""Preprocessing of media for ImageBind's towers; sizes are parameters, so the pocket encoder uses it too."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from nextgpt_pl.media.audio import SAMPLE_RATE, fbank, resample
from nextgpt_pl.media.timeline import spread

VERSION = 1  # raise it when inputs are prepared differently, also in media/audio.py; see nextgpt_pl.features.keys

# statistics of CLIP's training images and of AudioSet's spectrograms, as in upstream's code
_PIXEL_MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
_PIXEL_STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
_MEL_MEAN, _MEL_STD = -4.268, 9.138

# statistics of SUN RGB-D's disparities, given by the authors (facebookresearch/ImageBind, issue 134)
_DISPARITY_MEAN, _DISPARITY_STD = 0.0418, 0.0295
_NEAREST, _FARTHEST = 0.01, 50.0  # metres
IMU_STEPS = 2000  # five seconds at 400 hertz


def picture(array: np.ndarray, size: int) -> Tensor:
    """``(H, W, 3)`` uint8 to ``(3, size, size)``: short side resized (bicubic), centre crop, normalised."""
    pixels = torch.from_numpy(square(array, size)).permute(2, 0, 1).float()
    return pixels.div_(255).sub_(_PIXEL_MEAN).div_(_PIXEL_STD)


def square(array: np.ndarray, size: int) -> np.ndarray:
    """``(H, W, 3)`` uint8 to ``(size, size, 3)``: short side resized (bicubic), centre crop."""
    return _centre(Image.fromarray(array), size)


def _centre(image: Image.Image, size: int) -> np.ndarray:
    scale = size / min(image.size)
    if scale != 1:
        image = image.resize([max(size, round(side * scale)) for side in image.size], Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size))).copy()


def disparity(depth: np.ndarray, focal_length: float, baseline: float = 0.075) -> np.ndarray:
    """Convert depth in metres to the disparity that the depth tower was trained on, ``(H, W)``.

    Args:
        depth: ``(H, W)``; clipped to the range of sensors.
        focal_length: in pixels.
        baseline: stereo baseline of the sensor in metres; 0.075 is a Kinect's.

    """
    return (focal_length * baseline / np.clip(depth, _NEAREST, _FARTHEST)).astype(np.float32)


def depth_map(array: np.ndarray, size: int) -> Tensor:
    """Disparities ``(H, W)`` to ``(1, size, size)``, normalised."""
    plane = _centre(Image.fromarray(array.astype(np.float32)), size)
    return (torch.from_numpy(plane) - _DISPARITY_MEAN).unsqueeze(0) / _DISPARITY_STD


def thermal_map(array: np.ndarray, size: int) -> Tensor:
    """Infrared ``(H, W)`` from 0 to 1 to ``(1, size, size)``; not normalised."""
    plane = _centre(Image.fromarray(array.astype(np.float32)), size)
    return torch.from_numpy(plane).clamp(0, 1).unsqueeze(0)


def motion(array: np.ndarray, steps: int = IMU_STEPS) -> Tensor:
    """Inertial readings ``(6, n)`` of five seconds to ``(6, steps)``, interpolated."""
    readings = torch.from_numpy(array).float()
    return F.interpolate(readings[None], size=steps, mode="linear", align_corners=True)[0]


def video_clips(frames: np.ndarray, size: int, clips: int, clip_frames: int = 2) -> Tensor:
    """``(T, H, W, 3)`` uint8 to ``(clips, 3, clip_frames, size, size)``: clips spread evenly over the video.

    Frames are evenly spaced over the video.
    """
    images = torch.stack([picture(frames[i], size) for i in spread(len(frames), clips * clip_frames)])
    return images.unflatten(0, (clips, clip_frames)).transpose(1, 2)


def spectrogram(samples: Tensor, bins: int = 128, frames: int = 204) -> Tensor:
    """One clip ``(n,)`` to ``(1, bins, frames)``, cut or padded with zeros, then normalised."""
    energies = fbank(samples - samples.mean(), bins).T
    padding = frames - energies.shape[1]
    energies = F.pad(energies, (0, padding)) if padding > 0 else energies[:, :frames]
    return ((energies - _MEL_MEAN) / _MEL_STD).unsqueeze(0)


def audio_clips(samples: np.ndarray, rate: int, clips: int, seconds: float, bins: int, frames: int) -> Tensor:
    """``(n,)`` samples to ``(clips, 1, bins, frames)``: clips spread evenly; short sounds are repeated."""
    wave = resample(torch.from_numpy(np.ascontiguousarray(samples)).float(), rate)
    length = int(seconds * SAMPLE_RATE)
    if len(wave) < length:
        wave = wave.repeat(math.ceil(length / len(wave)))
    starts: Sequence[int] = np.linspace(0, len(wave) - length, clips).round().astype(int).tolist()
    return torch.stack([spectrogram(wave[start : start + length], bins, frames) for start in starts])


def sound_windows(samples: np.ndarray, rate: int, target: int, length: int, count: int) -> list[np.ndarray]:
    """``(n,)`` samples at ``rate`` hertz to ``count`` windows of at most ``length`` samples at ``target`` hertz.

    Windows follow each other from the beginning; those behind the end are silent. If the sound is longer than all
    windows together, they are spread evenly over it.
    """
    sound = resample(torch.from_numpy(np.array(samples)), rate, target).numpy()
    last = max(len(sound) - length, (count - 1) * length) if count > 1 else 0
    starts = np.linspace(0, last, count).round().astype(int)
    silence = np.zeros(length, np.float32)
    return [sound[start : start + length] if start < len(sound) else silence for start in starts]
