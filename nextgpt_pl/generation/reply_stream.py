"""The parts of one reply while it is generated: pieces of text, media and their previews, and records on request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from nextgpt_pl.batches import Rendered
from nextgpt_pl.generation.decoding import Decoding
from nextgpt_pl.generation.drawing import draw, draw_one
from nextgpt_pl.generation.records import Record, SpanRecord, TokenRecord
from nextgpt_pl.generation.replies import medium_of
from nextgpt_pl.generation.stopping import Stop, StoppedError
from nextgpt_pl.generation.streaming import pieces
from nextgpt_pl.modality import Modality
from nextgpt_pl.model import NextGPT
from nextgpt_pl.samples import ReplyPart


def reply_stream(
    network: NextGPT,
    prompt: Rendered,
    decoding: Decoding,
    sampling: Mapping[Modality, dict[str, Any]],
    stop: Stop | None,
    previews: int,
    alternatives: int,
) -> Iterator[ReplyPart | Record]:
    """Yield the reply to one prompt; it ends when ``stop`` returns true.

    Args:
        network: the model; its decoders draw.
        prompt: the prompt.
        decoding: decoding options; medium k is drawn with its seed + k.
        sampling: sampling arguments per modality.
        stop: called after each pass of the LLM and each denoising step.
        previews: number of denoising steps between previews; 0: none.
        alternatives: number of alternatives in the record of each token; 0: no records.

    """
    number = 0
    try:
        for piece in pieces(network, prompt, decoding, stop, alternatives):
            if isinstance(piece, TokenRecord | ReplyPart):
                yield piece
                continue
            span, condition = piece
            if alternatives:
                yield SpanRecord(span.modality, None if isinstance(condition, str) else condition)
            part, seed = medium_of(span), decoding.seed + number
            drawn = partial(draw, network, [part], [condition], [seed], sampling)
            yield from draw_one(drawn, part, stop, previews)
            number += 1
    except StoppedError:
        return
