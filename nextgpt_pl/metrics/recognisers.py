"""Speech recognisers, which judge spoken replies: every score names its recogniser."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nextgpt_pl.errors import UserError
from nextgpt_pl.media.audio import SAMPLE_RATE, resample
from nextgpt_pl.media.reading import array_of
from nextgpt_pl.metrics.word_errors import words_of
from nextgpt_pl.samples import Media

_PAUSE = 0.2  # seconds of silence before and after a sound
_PEAK = 0.8  # of the loudest sample


class Recogniser(ABC):
    """Writes down what is said in sounds."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Name in scores."""

    @abstractmethod
    def transcribe(self, media: Sequence[Media]) -> list[str]:
        """The words in each of N sounds.

        Raises:
            UserError: a sound cannot be read, or a package is missing.

        """


class SphinxRecogniser(Recogniser):
    """Pocketsphinx with the American English model of its wheel; needs the extra ``speech``.

    Args:
        words: the only words that it knows, in any order and number, such as digits. ``None``: the language model of
            the wheel.

    Raises:
        UserError: there are no words, or one is not a word.

    """

    def __init__(self, words: list[str] | None = None) -> None:
        if words is not None and (not words or any(words_of(word) != [word] for word in words)):
            raise UserError(f"SphinxRecogniser.words={words}: words in small letters are expected")
        self.words = words

    @property
    def name(self) -> str:
        """Pocketsphinx, with the number of words that it knows."""
        return "pocketsphinx" if self.words is None else f"pocketsphinx, {len(self.words)} words"

    def transcribe(self, media: Sequence[Media]) -> list[str]:
        """See :class:`Recogniser`."""
        decoder = self._decoder()
        return [_heard(decoder, *array_of(medium)) for medium in media]

    def _decoder(self) -> Any:
        """A new decoder: it adapts to what it hears, and scores must not depend on other sounds."""
        try:
            from pocketsphinx import Decoder
        except ImportError as error:
            raise UserError("SphinxRecogniser needs pocketsphinx: pip install 'nextgpt-pl[speech]'") from error
        if self.words is None:
            return Decoder(samprate=SAMPLE_RATE, loglevel="FATAL")
        decoder = Decoder(lm=None, samprate=SAMPLE_RATE, loglevel="FATAL")
        for word in self.words:
            if decoder.lookup_word(word) is None:
                raise UserError(f"SphinxRecogniser.words: {word!r} is not in the dictionary of pocketsphinx")
        decoder.add_jsgf_string("words", f"#JSGF V1.0;\ngrammar words;\npublic <said> = ({' | '.join(self.words)})+;\n")
        decoder.activate_search("words")
        return decoder


def _heard(decoder: Any, samples: np.ndarray, rate: float | None) -> str:
    if not rate:
        raise UserError("speech without a sample rate cannot be recognised")
    sound: Tensor = resample(torch.from_numpy(samples), int(rate))
    pause = torch.zeros(round(_PAUSE * SAMPLE_RATE))
    loud = sound * _PEAK / sound.abs().max().clamp(min=1e-4)
    decoder.start_utt()
    data = (torch.cat([pause, loud, pause]) * 32767).short().numpy().tobytes()
    decoder.process_raw(data, full_utt=True)
    decoder.end_utt()
    hypothesis = decoder.hyp()
    return "" if hypothesis is None else str(hypothesis.hypstr)
