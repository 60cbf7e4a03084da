"""Small galleries of the pocket world, and an embedding of captions that needs no weights."""

import hashlib

import numpy as np
import torch

from nextgpt_pl.decoders.retrieval import RetrievalDecoder
from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.parts import pocket_decoder
from nextgpt_pl.pocket.world.items import captioned_pair
from nextgpt_pl.retrieval import GalleryBuilder

PRODUCER = {"class": "Hashed", "version": 1, "compute_dtype": "float32"}


def pairs(modality="image", count=12, split="train", first=0):
    """Items of the pocket world."""
    return [captioned_pair(split, Modality(modality), i) for i in range(first, first + count)]


def pocket_gallery(folder, modality="image", items=None, held_out=(), **options):
    """A decoder that retrieves from a gallery of the pocket world, with the package's decoder for the rest."""
    decoder = pocket_decoder(Modality(modality))
    producer, embed = decoder.captions.producer(), decoder.embed_captions
    GalleryBuilder(folder, Modality(modality), producer, embed, {}).build(items or pairs(modality), list(held_out))
    return RetrievalDecoder(decoder, modality, folder, **options)


class Hashed:
    """Embeds a caption as 32 numbers of its hash; ``seen`` are the captions that it was asked for.

    Args:
        fails_after: number of captions after which it raises ``KeyboardInterrupt``.

    """

    def __init__(self, fails_after=None):
        self.seen, self.fails_after = [], fails_after

    def __call__(self, captions):
        if self.fails_after is not None and len(self.seen) + len(captions) > self.fails_after:
            raise KeyboardInterrupt
        self.seen += captions
        rows = [np.frombuffer(hashlib.sha256(c.encode()).digest(), np.uint8) / 128 for c in captions]
        return torch.tensor(np.stack(rows), dtype=torch.float32)


def builder(folder, embed, data=None, **options):
    """Of a gallery of images."""
    return GalleryBuilder(folder, Modality.IMAGE, PRODUCER, embed, data or {}, **options)
