"""Held-out requests for images that the user speaks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from nextgpt_pl.evaluation.scores import Score
from nextgpt_pl.evaluation.tasks import Item, Task
from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.spoken import FOLDER, VOICE, Reader
from nextgpt_pl.pocket.world import grammar
from nextgpt_pl.pocket.world.attributes import attributes
from nextgpt_pl.samples import Media


class SpokenImages(Task):
    """Spoken requests of the pocket world with pairs of colour and shape that training never says.

    Args:
        scores: see :class:`Task`.
        count: number of requests.
        written: give the same requests in writing, which shows what is lost by hearing.
        folder: of the sounds.
        voice: see :class:`~nextgpt_pl.decoders.piper.PiperDecoder`.

    """

    def __init__(
        self, scores: Sequence[Score], count: int = 48, written: bool = False, folder: Path = FOLDER, voice: str = VOICE
    ) -> None:
        super().__init__(f"pocket {'written' if written else 'speech'}->image", scores, count)
        self.written, self.reader = written, Reader(folder, voice)

    def items(self) -> Iterator[Item]:
        """One per request; the text of the request is the reference."""
        kind = Modality.SPEECH.value
        for request, file in self.reader.requests("heldout", self.count or 0):
            spoken = {"type": kind, kind: Media(Modality.SPEECH, file)}
            content = [{"type": "text", "text": request.text} if self.written else spoken]
            yield Item(
                request.key,
                ({"role": "user", "content": content},),
                references=(grammar.plain_caption(request.scene),),
                expected=((Modality.IMAGE.value, dict(attributes(request.scene))),),
            )
