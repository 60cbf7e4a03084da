"""Scores of spoken replies, and a task in which a voice reads texts aloud."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nextgpt_pl.decoders.words import WordsDecoder
from nextgpt_pl.errors import UserError
from nextgpt_pl.evaluation import bootstrap
from nextgpt_pl.evaluation.bootstrap import Estimate
from nextgpt_pl.evaluation.records import Prediction, as_media
from nextgpt_pl.evaluation.scores import Score, SharedScore, first_medium, need_references
from nextgpt_pl.evaluation.shared_work import SharedWork
from nextgpt_pl.evaluation.tasks import Item, Task
from nextgpt_pl.metrics.recognisers import Recogniser
from nextgpt_pl.metrics.word_errors import word_edits
from nextgpt_pl.modality import Modality
from nextgpt_pl.pipeline import Reply
from nextgpt_pl.samples import ReplyPart

_SPEECH = Modality.SPEECH.value


class WordErrors(SharedScore):
    """Word error rate of the first spoken part of each reply, as a recogniser hears it.

    Args:
        recogniser: its name is in the score's name.
        to: ``references``: the words that should have been said; a reply without speech has said none. ``words``: the
            words that the LLM wrote for the voice, in replies with speech.

    Raises:
        UserError: there is no such ``to``.

    """

    def __init__(self, recogniser: Recogniser, to: Literal["references", "words"] = "references") -> None:
        if to not in ("references", "words"):
            raise UserError(f"WordErrors.to={to!r}: 'references' or 'words' is expected")
        self.recogniser, self.to = recogniser, to

    def compute(
        self, predictions: Sequence[Prediction], folder: Path, data: Path, work: SharedWork
    ) -> dict[str, Estimate]:
        """``WER (RECOGNISER)``: word edits over words of all items; the interval resamples items."""
        if self.to == "references":
            need_references(predictions)
            chosen = list(predictions)
        else:
            chosen = [p for p in predictions if first_medium(p, _SPEECH) is not None]
        counts = np.array(work.split(partial(self._edits, folder), chosen), dtype=np.int64).reshape(-1, 2)
        if not counts[:, 1].sum():
            raise ValueError(f"WER: none of {len(predictions)} items has words to be said")

        def rate(drawn: np.ndarray) -> float:
            edits, words = counts[drawn].sum(0)
            return float(edits / max(words, 1))

        return {f"WER ({self.recogniser.name})": bootstrap.of_set(rate, len(counts))}

    def _edits(self, folder: Path, predictions: Sequence[Prediction]) -> list[tuple[int, int]]:
        """Word edits and words of each item."""
        spoken = [first_medium(p, _SPEECH) for p in predictions]
        heard = iter(self.recogniser.transcribe([as_media(folder, medium) for medium in spoken if medium is not None]))
        return [
            word_edits(self._said(p, medium), "" if medium is None else next(heard))
            for p, medium in zip(predictions, spoken, strict=True)
        ]

    def _said(self, prediction: Prediction, medium: dict[str, Any] | None) -> str:
        return prediction.references[0] if self.to == "references" else str((medium or {}).get("caption", ""))


class ReadAloud(Task):
    """A voice reads texts; no LLM is used.

    Args:
        decoder: a decoder that takes words.
        texts: what it reads; these are the references.
        scores: see :class:`Task`.
        name: see :class:`Task`.

    """

    def __init__(
        self, decoder: WordsDecoder, texts: list[str], scores: Sequence[Score], name: str = "texts read aloud"
    ) -> None:
        super().__init__(name, scores)
        self.decoder, self.texts = decoder, texts

    def items(self) -> Iterator[Item]:
        """One item per text."""
        for number, text in enumerate(self.texts):
            message = {"role": "user", "content": [{"type": "text", "text": text}]}
            yield Item(str(number), (message,), (_SPEECH,), (text,))

    def answer(self, model: Any, batch: Sequence[tuple[int, Item]], *, temperature: float, seed: int) -> list[Reply]:
        """One sound per text; that of text n has the seed ``seed + n``."""
        texts = [item.references[0] for _, item in batch]
        sounds = self.decoder.generate_from_words(texts, seed=[seed + number for number, _ in batch])
        rate = self.decoder.rate
        return [[ReplyPart(_SPEECH, array=a, rate=rate, caption=t)] for a, t in zip(sounds, texts, strict=True)]
