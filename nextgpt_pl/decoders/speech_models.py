"""Decoders that speak with models of the transformers library: VITS and SpeechT5."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from nextgpt_pl.decoders.arguments import Arguments
from nextgpt_pl.decoders.speech import SpeechDecoder
from nextgpt_pl.errors import UserError
from nextgpt_pl.utils.paths import resolve
from nextgpt_pl.utils.precision import own_precision
from nextgpt_pl.utils.quiet import quiet_loading


class _Transformers(SpeechDecoder):
    """A speaking model of transformers with its tokenizer; loaded when it first speaks."""

    #: names of the model's and the tokenizer's classes
    classes: tuple[str, str]

    def __init__(self, path: str, sampling: Arguments | None = None, max_tokens: int = 64) -> None:
        super().__init__(path, sampling, max_tokens)
        self._loaded: tuple[Any, Any] | None = None
        self._config: Any = None

    @property
    def config(self) -> Any:
        """The model's configuration; no weights are read."""
        if self._config is None:
            self._config = _read(self._class(0).config_class, self.path)
        return self._config

    def _class(self, number: int) -> Any:
        import transformers

        return getattr(transformers, self.classes[number])

    def load(self) -> tuple[Any, Any]:
        """Model, on the device, and tokenizer; loaded once."""
        if self._loaded is None:
            model = _read(self._class(0), self.path, dtype=torch.float32).eval().requires_grad_(False)
            self._loaded = model.to(self.device), _read(self._class(1), self.path)
        return self._loaded

    def parameter_counts(self) -> dict[str, int]:
        """Parameters of the model; reads no weights."""
        with torch.device("meta"):
            model = self._class(0)(self.config)
        return {"speech": sum(p.numel() for p in model.parameters())}

    def to(self, device: torch.device | str) -> SpeechDecoder:
        """See :class:`Decoder`."""
        self.device = torch.device(device)
        if self._loaded is not None:
            self._loaded[0].to(self.device)
        return self

    @torch.no_grad()
    @own_precision()
    def speak(self, text: str, seed: int, options: Mapping[str, Any]) -> np.ndarray:
        """See :class:`SpeechDecoder`."""
        ids = self._ids(text)
        if not ids.numel():
            return np.empty(0)
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(seed)
            return self.samples(ids.to(self.device), options).float().cpu().numpy()

    def _ids(self, text: str) -> Tensor:
        """Token ids ``(1, T)``."""
        ids: Tensor = self.load()[1](text, return_tensors="pt").input_ids
        return ids.long()

    @abstractmethod
    def samples(self, ids: Tensor, options: Mapping[str, Any]) -> Tensor:
        """Token ids ``(1, T)`` to samples ``(n,)``."""


class VitsDecoder(_Transformers):
    """VITS, such as ``facebook/mms-tts-eng``: one network from characters to samples.

    Its sampling arguments are ``speaking_rate``, ``noise_scale``, ``noise_scale_duration`` and, for voices of several
    speakers, ``speaker_id``; by default those of its configuration.

    Args:
        path, sampling, max_tokens: see :class:`SpeechDecoder`.

    """

    classes = ("VitsModel", "VitsTokenizer")
    options: ClassVar[Mapping[str, Any]] = {
        "speaking_rate": float,
        "noise_scale": float,
        "noise_scale_duration": float,
        "speaker_id": int,
    }

    @property
    def rate(self) -> float:
        """Samples per second."""
        return float(self.config.sampling_rate)

    def samples(self, ids: Tensor, options: Mapping[str, Any]) -> Tensor:
        """See :class:`_Transformers`."""
        model, config = self.load()[0], self.config
        model.noise_scale = options.get("noise_scale", config.noise_scale)
        model.noise_scale_duration = options.get("noise_scale_duration", config.noise_scale_duration)
        own = {name: options[name] for name in ("speaking_rate", "speaker_id") if name in options}
        waveform: Tensor = model(ids, **own).waveform
        return waveform[0]

    def _ids(self, text: str) -> Tensor:
        tokenizer = self.load()[1]
        try:
            return super()._ids(text)
        except ImportError as error:
            raise UserError(
                f"decoder path={self.path!r}: its tokenizer speaks phonemes (phonemize={tokenizer.phonemize}) and needs"
                " espeak and phonemizer: pip install phonemizer; voices of characters, such as facebook/mms-tts-eng, do"
                " not"
            ) from error


class SpeechT5Decoder(_Transformers):
    """SpeechT5 with its vocoder, in the voice of a speaker embedding.

    Its sampling arguments are ``threshold``, ``minlenratio`` and ``maxlenratio``.

    Args:
        path: of the model, such as ``microsoft/speecht5_tts``.
        vocoder: of the vocoder, such as ``microsoft/speecht5_hifigan``.
        speaker: a ``.npy`` file, or a ``.safetensors`` file of one tensor, with the speaker's embedding ``(512,)``.
        sampling, max_tokens: see :class:`SpeechDecoder`.

    """

    classes = ("SpeechT5ForTextToSpeech", "SpeechT5Tokenizer")
    options: ClassVar[Mapping[str, Any]] = {"threshold": float, "minlenratio": float, "maxlenratio": float}

    def __init__(
        self, path: str, vocoder: str, speaker: Path, sampling: Arguments | None = None, max_tokens: int = 64
    ) -> None:
        super().__init__(path, sampling, max_tokens)
        self.vocoder, self.speaker = vocoder, speaker
        self._voice: tuple[Any, Tensor] | None = None

    @property
    def rate(self) -> float:
        """Samples per second."""
        from transformers import SpeechT5HifiGanConfig

        return float(_read(SpeechT5HifiGanConfig, self.vocoder).sampling_rate)

    def samples(self, ids: Tensor, options: Mapping[str, Any]) -> Tensor:
        """See :class:`_Transformers`."""
        if self._voice is None:
            from transformers import SpeechT5HifiGan

            vocoder = _read(SpeechT5HifiGan, self.vocoder, dtype=torch.float32).eval().requires_grad_(False)
            self._voice = vocoder.to(self.device), speaker_embedding(self.speaker, self.config.speaker_embedding_dim)
        vocoder, speaker = self._voice
        waveform: Tensor = self.load()[0].generate_speech(
            ids[:, : self.config.max_text_positions], speaker.to(self.device), vocoder=vocoder, **options
        )
        return waveform

    def to(self, device: torch.device | str) -> SpeechDecoder:
        """See :class:`Decoder`."""
        if self._voice is not None:
            self._voice[0].to(device)
        return super().to(device)


def speaker_embedding(path: Path, width: int) -> Tensor:
    """The embedding of a speaker ``(1, width)`` float32, from a ``.npy`` or ``.safetensors`` file.

    Raises:
        UserError: the file is missing or unreadable, or holds something else.

    """
    from safetensors.numpy import load_file

    try:
        array = np.load(path, allow_pickle=False) if path.suffix == ".npy" else None
        arrays = [array] if array is not None else list(load_file(path).values())
    except Exception as error:  # numpy and safetensors raise many kinds
        raise UserError(f"decoder speaker={str(path)!r}: not a readable .npy or .safetensors file ({error})") from error
    shapes = [array.shape for array in arrays]
    if len(arrays) != 1 or arrays[0].size != width or arrays[0].dtype.kind != "f":
        raise UserError(f"decoder speaker={str(path)!r}: one floating-point array ({width},) is expected, got {shapes}")
    if not np.isfinite(arrays[0]).all():
        raise UserError(f"decoder speaker={str(path)!r}: a value is not finite")
    return torch.from_numpy(arrays[0].astype(np.float32)).reshape(1, width)


def _read(kind: Any, path: str, **options: Any) -> Any:
    """A part of a model from a folder or the hub."""
    own = {} if kind.__name__.endswith("Config") else {"trust_remote_code": False}
    try:
        with quiet_loading():
            return kind.from_pretrained(resolve(path), **own, **options)
    except (OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"decoder path={path!r}: no {kind.__name__} can be read from there ({reason})") from error
