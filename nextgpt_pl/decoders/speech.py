"""Base class of decoders that speak the words of the LLM."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch

from nextgpt_pl.decoders.arguments import Arguments, check
from nextgpt_pl.decoders.base import DrawingStep, OnStep, item_seeds
from nextgpt_pl.decoders.words import WordsDecoder
from nextgpt_pl.errors import UserError, at_least

_SILENCE = 0.25  # seconds of silence for words without a sound


class SpeechDecoder(WordsDecoder):
    """Base class of decoders that speak; subclasses define :meth:`speak` and :attr:`rate`.

    Each item is spoken by itself, so that it does not depend on the batch. Words without a sound, such as punctuation
    alone, are a quarter of a second of silence.

    Args:
        path: hub id, folder, or ``wheel:PACKAGE``.
        sampling: sampling arguments; :attr:`options` has their names and types.
        max_tokens: maximum number of the LLM's tokens between the signal tokens.

    """

    #: names and types of the sampling arguments
    options: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, path: str, sampling: Arguments | None = None, max_tokens: int = 64) -> None:
        super().__init__(max_tokens)
        self.path, self.sampling = path, dict(sampling or {})
        self._check(self.sampling, "decoder sampling")
        self.device = torch.device("cpu")

    def check_sampling(self, sampling: Mapping[str, Any]) -> None:
        """See :class:`Decoder`."""
        self._check(sampling, "sampling")

    def _check(self, sampling: Mapping[str, Any], where: str) -> None:
        check(sampling, self.options, where, type(self).__name__)
        at_least(0, **{f"{where}__{name}": value for name, value in sampling.items()})

    def generate_from_words(
        self, words: Sequence[str], *, seed: int | Sequence[int], on_step: OnStep | None = None, **sampling: Any
    ) -> list[np.ndarray]:
        """Sounds ``(samples,)`` float32 in [-1, 1] at :attr:`rate`; see :class:`Decoder`.

        Raises:
            UserError: a sample is not finite.

        """
        self.check_sampling(sampling)
        options = {**self.sampling, **sampling}
        sounds = []
        for number, (text, own_seed) in enumerate(zip(words, item_seeds(seed, len(words)), strict=True), start=1):
            sounds.append(self._sound(text, own_seed, options))
            if on_step is not None:
                on_step(DrawingStep(number, len(words), list))
        return sounds

    def _sound(self, text: str, seed: int, options: Mapping[str, Any]) -> np.ndarray:
        words = " ".join(text.split())
        samples = self.speak(words, seed, options) if any(map(str.isalnum, words)) else np.empty(0)
        if not samples.size:
            return np.zeros(round(_SILENCE * (self.rate or 0)), np.float32)
        if not np.isfinite(samples).all():
            raise UserError(f"{self.path}: samples of {text!r:.60} are not finite")
        return samples.astype(np.float32).clip(-1.0, 1.0)

    @abstractmethod
    def speak(self, text: str, seed: int, options: Mapping[str, Any]) -> np.ndarray:
        """One text as samples ``(n,)``, none if nothing in it has a sound.

        Args:
            text: the words, with a letter or digit.
            seed: seed of the random numbers.
            options: sampling arguments.

        """
