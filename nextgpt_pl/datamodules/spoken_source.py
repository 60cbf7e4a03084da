"""Dialogues in which the user speaks a request for an image of the pocket world."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from nextgpt_pl.datamodules.rows import RowReport
from nextgpt_pl.datamodules.sources import Source, Split
from nextgpt_pl.errors import at_least
from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.spoken import FOLDER, VOICE, Reader
from nextgpt_pl.pocket.world import grammar, talk
from nextgpt_pl.pocket.world.scenes import pick
from nextgpt_pl.samples import Dialogue, Media, MediaPart, Message, TextPart


class SpokenRequests(Source):
    """The user says what to draw; the assistant describes the image and draws it.

    The sounds are read aloud where no file of them exists, which needs the extra ``speech``. Validation has pairs of
    colour and shape that training never says.

    Args:
        train_size: training dialogues.
        val_size: validation dialogues.
        folder: of the sounds.
        voice: see :class:`~nextgpt_pl.decoders.piper.PiperDecoder`.
        seed: another seed gives another set.
        name: name of the data set, for its weight.

    """

    def __init__(
        self,
        train_size: int = 240,
        val_size: int = 48,
        folder: Path = FOLDER,
        voice: str = VOICE,
        seed: int = 0,
        name: str = "spoken",
    ) -> None:
        at_least(0, SpokenRequests__train_size=train_size, SpokenRequests__val_size=val_size, SpokenRequests__seed=seed)
        self.sizes: dict[str, int] = {"train": train_size, "val": val_size}
        self.folder, self.voice, self.seed, self.name = folder, voice, seed, name

    def read(self, split: Split) -> Sequence[Dialogue]:
        """All dialogues of the split."""
        side: Any = "train" if split == "train" else "heldout"
        self.report = RowReport("spoken requests", self.sizes[split])
        requests = Reader(self.folder, self.voice).requests(side, self.sizes[split], self.seed)
        dialogues = []
        for request, file in requests:
            caption = grammar.plain_caption(request.scene)
            answer = TextPart(pick(Random(request.key), talk.HERE).format(caption))
            user = Message("user", (MediaPart(Modality.SPEECH, Media(Modality.SPEECH, file)),))
            made = MediaPart(Modality.IMAGE, caption=caption)
            dialogues.append(Dialogue(request.key, (user, Message("assistant", (answer, made)))))
        return dialogues
