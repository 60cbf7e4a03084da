"""``data index-gallery``: index the media of an experiment's data for its decoders that retrieve."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from nextgpt_pl.errors import UserError, at_least
from nextgpt_pl.utils.processes import locked, terminable
from nextgpt_pl.verbs.command import helped, options_of

if TYPE_CHECKING:
    from torch import Tensor

    from nextgpt_pl.decoders.retrieval import RetrievalDecoder
    from nextgpt_pl.retrieval import Manifest

# arguments of sources that change no item
_FREE = ("on_error", "index_folder", "name")


@dataclass
class GalleryOptions:
    """Options of ``data index-gallery``; the other arguments are keys of the experiment's YAML.

    Args:
        dimensions: highest length of a vector in the index.
        device: device of the text encoders; by default a GPU if there is one.
        workers: number of threads that read and write media.

    """

    dimensions: int = 128
    device: str | None = None
    workers: int = min(8, os.cpu_count() or 1)

    def __post_init__(self) -> None:
        at_least(1, **{"--dimensions": self.dimensions, "--workers": self.workers})


def index_gallery(arguments: list[str]) -> int:
    """Run ``data index-gallery -c FILE``; the same command continues an interrupted build.

    The training items of the data become the galleries of the decoders of class ``RetrievalDecoder``.

    Returns:
        0; 130 if it was interrupted.

    Raises:
        UserError: the configuration is invalid or has no such decoder, or a folder has a gallery of something else.

    """
    if helped(arguments, "data index-gallery", GalleryOptions):
        return 0
    from nextgpt_pl.decoders.retrieval import RetrievalDecoder
    from nextgpt_pl.training.cli import build_with_options

    stage, data, config = build_with_options(arguments, GalleryOptions)
    options, network = options_of(config, GalleryOptions), stage.network
    decoders = {m: d for m, d in network.decoders.items() if isinstance(d, RetrievalDecoder)}
    if not decoders:
        wanted = "nextgpt_pl.decoders.retrieval.RetrievalDecoder"
        raise UserError(f"data index-gallery: no decoder of the YAML is a {wanted}, so there is no gallery to make")
    described = [
        {"class": entry.class_path, **{k: v for k, v in entry.init_args.as_dict().items() if k not in _FREE}}
        for entry in config.data.init_args.sources
    ]
    try:
        with terminable():
            for modality, decoder in decoders.items():
                _index(decoder, partial(network.caption_embeddings, modality), data.sources, described, options)
    except KeyboardInterrupt:
        print("interrupted; the same command continues")
        return 130
    return 0


def _index(
    decoder: RetrievalDecoder,
    embed: Callable[[Sequence[str]], Tensor],
    sources: Sequence[Any],
    described: Sequence[dict[str, Any]],
    options: GalleryOptions,
) -> None:
    """Make the gallery of one decoder from the training items of all sources."""
    from nextgpt_pl.datamodules.concatenated import Concatenated
    from nextgpt_pl.metrics.extractors import device_of
    from nextgpt_pl.retrieval import GalleryBuilder

    decoder.to(device_of(options.device))
    items = Concatenated([source.read("train") for source in sources])
    held_out = Concatenated([source.read("val") for source in sources if not source.validates_on_training()])
    data = {"sources": described, "data files": [source.states() for source in sources]}
    decoder.folder.mkdir(parents=True, exist_ok=True)
    with locked(decoder.folder / ".lock"):
        builder = GalleryBuilder(
            decoder.folder,
            decoder.modality,
            decoder.captions.producer(),
            embed,
            data,
            options.dimensions,
            options.workers,
        )
        _print(decoder, builder.build(items, held_out))


def _print(decoder: RetrievalDecoder, manifest: Manifest) -> None:
    """Print the size of a gallery, and the distances by which a threshold is chosen."""
    from nextgpt_pl.retrieval.build import SKIPPED

    folder = decoder.folder
    print(f"{folder}: {manifest.count:,} {manifest.modality}s, vectors of {manifest.dimensions} numbers")
    if manifest.skipped:
        print(f"  {manifest.skipped:,} were left out, since their media cannot be read: {folder / SKIPPED}")
    if not manifest.quantiles:
        print("  the data have no held-out captions, so no distances are known from which to choose a threshold")
        return
    print(f"  distance of {manifest.held_out:,} held-out captions to the nearest item:")
    for share, distance in manifest.quantiles.items():
        print(f"    threshold: {distance:.4g} takes the gallery's medium for {float(share):.0%} of them")
