"""An audio tower with a CTC head: one feature per recognised word instead of one per frame."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nextgpt_pl.encoders.pretrained import PretrainedEncoder
from nextgpt_pl.errors import UserError, at_least
from nextgpt_pl.modality import Modality
from nextgpt_pl.utils.atomic import write_atomic
from nextgpt_pl.utils.paths import resolve

VERSION = 1  # raise it when features change; see nextgpt_pl.features.keys
Embed = Literal["states", "words"]
HEAD, WORDS = "ctc.safetensors", "ctc_words.json"
BLANK = 0  # the class of frames without a word; the other classes are the words in order


class CtcEncoder(PretrainedEncoder):
    """States of an audio tower, averaged over the frames of each word that its CTC head recognises.

    CTC compression makes a sound about as long as its text: a feature for each word, in order, and zeros behind the
    last one.

    Args:
        path: folder of the tower, with the head in ``ctc.safetensors`` and its words in ``ctc_words.json``.
        modalities: media that it reads.
        words: E, the maximum number of words of a sound; further ones are dropped.
        embed: ``states``: the mean state of a word's frames; ``words``: the head's weights of the word, which are equal
            wherever it is heard. States also hold what stands around a word: pairs of words can be learned by heart.

    """

    def __init__(
        self, path: str, modalities: list[str] | None = None, words: int = 12, embed: Embed = "states"
    ) -> None:
        super().__init__(path, ["speech"] if modalities is None else modalities, features="patches")
        at_least(1, encoder__words=words)
        if embed not in get_args(Embed):
            raise UserError(f"encoder.embed={embed!r}: one of {', '.join(get_args(Embed))}")
        self.words, self.embed = words, embed
        self.head: nn.Linear | None = None

    def tokens(self, modality: Modality) -> int:
        """The maximum number of words."""
        return self.words

    def vocabulary(self) -> list[str]:
        """The words that the head knows.

        Raises:
            UserError: the file is missing or holds something else.

        """
        file = Path(resolve(self.tower.path)) / WORDS
        try:
            words = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"encoder.path={self.tower.path!r}: no readable {WORDS} there ({error})") from error
        if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
            raise UserError(f"{file}: a list of words is expected")
        return words

    def producer(self, modality: Modality) -> dict[str, Any]:
        """Also the number of words and what stands for one."""
        return {**super().producer(modality), "words": self.words, "embed": self.embed, "ctc": VERSION}

    def load(self) -> None:
        """Also read the head; under the meta device nothing is read.

        Raises:
            UserError: a file is missing or does not fit the tower.

        """
        super().load()
        head = nn.Linear(self.width(self.modalities[0]), 1 + len(self.vocabulary()))
        if not head.weight.is_meta:
            try:
                head.load_state_dict(load_file(Path(resolve(self.tower.path)) / HEAD))
            except (OSError, RuntimeError, SafetensorError) as error:
                reason = str(error).splitlines()[0]
                raise UserError(f"encoder.path={self.tower.path!r}: {HEAD} does not fit ({reason})") from error
        self.head = head.requires_grad_(False)

    def forward(self, modality: Modality, inputs: Tensor) -> Tensor:
        """Sounds ``(N, windows, ...)`` to features ``(N, words, C)``."""
        states = super().forward(modality, inputs)
        assert self.head is not None
        classes = self.head(states.to(self.head.weight.dtype)).argmax(-1)
        return compressed(
            F.embedding(classes, self.head.weight) if self.embed == "words" else states, classes, self.words
        )

    @torch.no_grad()
    def transcripts(self, inputs: Tensor) -> list[str]:
        """The recognised words of sounds ``(N, windows, ...)``."""
        states = super().forward(self.modalities[0], inputs)
        assert self.head is not None
        words = self.vocabulary()
        classes: list[list[int]] = self.head(states).argmax(-1).tolist()
        return [" ".join(words[c - 1] for c, _ in groupby(row) if c != BLANK) for row in classes]


def compressed(states: Tensor, classes: Tensor, count: int) -> Tensor:
    """Mean state of each run of frames with one class, ``(N, count, C)`` in order; zeros behind the last run.

    Args:
        states: ``(N, T, C)``.
        classes: best class of each frame, ``(N, T)``; runs of the blank class are left out.
        count: maximum number of runs.

    >>> states = torch.tensor([[[1.0], [2.0], [4.0], [9.0], [8.0]]])
    >>> compressed(states, torch.tensor([[3, 3, 0, 3, 1]]), 4).flatten().tolist()
    [1.5, 9.0, 8.0, 0.0]

    """
    before = torch.cat([torch.full_like(classes[:, :1], BLANK), classes[:, :-1]], dim=1)
    spoken = classes != BLANK
    number = ((classes != before) & spoken).cumsum(1) - 1
    # frames without a word, and those of words beyond the last one, go to a place that is cut off
    place = torch.where(spoken & (number < count), number, count).unsqueeze(-1)
    sums = states.new_zeros(len(states), count + 1, states.shape[-1]).scatter_add(1, place.expand_as(states), states)
    lengths = states.new_zeros(len(states), count + 1, 1).scatter_add(1, place, torch.ones_like(states[..., :1]))
    return (sums / lengths.clamp(min=1))[:, :count]


def save_head(head: nn.Linear, words: list[str], folder: Path) -> None:
    """Write a head and its words to the folder of a tower."""
    save_file({name: value.detach().contiguous() for name, value in head.state_dict().items()}, folder / HEAD)
    write_atomic(folder / WORDS, json.dumps(words, indent=1) + "\n")
