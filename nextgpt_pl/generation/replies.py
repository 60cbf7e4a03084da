"""Written replies as ordered parts, with their media drawn in batches per modality."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nextgpt_pl.batches import Rendered, SignalSpan
from nextgpt_pl.generation.drawing import draw
from nextgpt_pl.generation.signals import Written, conditions
from nextgpt_pl.generation.stopping import Stop, stopping
from nextgpt_pl.modality import Modality
from nextgpt_pl.model import NextGPT
from nextgpt_pl.samples import ReplyPart

Reply = list[ReplyPart]


def replies_of(
    network: NextGPT,
    written: Sequence[Written],
    seeds: Sequence[int],
    sampling: Mapping[Modality, dict[str, Any]],
    stop: Stop | None = None,
) -> list[Reply]:
    """The parts of each reply.

    Args:
        network: the model; its decoders draw.
        written: the replies.
        seeds: per reply; medium k is drawn with this seed + k.
        sampling: sampling arguments per modality.
        stop: called after each denoising step; when it returns true, drawing ends.

    Raises:
        StoppedError: ``stop`` has returned true.

    """
    on_step = None if stop is None else stopping(stop)
    told = conditions(network, written)
    replies: list[Reply] = []
    requests: dict[Modality, list[tuple[int, int, int]]] = {}
    for index, one in enumerate(written):
        reply: Reply = []
        for part, number in parts_of(network, one.row):
            if number is not None:
                requests.setdefault(Modality(part.type), []).append((index, len(reply), number))
            reply.append(part)
        replies.append(reply)
    for entries in requests.values():
        empty = [replies[index][position] for index, position, _ in entries]
        of_spans = [told[index][number] for index, _, number in entries]
        own_seeds = [seeds[index] + number for index, _, number in entries]
        media = draw(network, empty, of_spans, own_seeds, sampling, on_step)
        for (index, position, _), part in zip(entries, media, strict=True):
            replies[index][position] = part
    return replies


def parts_of(network: NextGPT, row: Rendered) -> Iterator[tuple[ReplyPart, int | None]]:
    """The reply's parts in order; media have no array yet, but the number of their span."""
    position = row.first_label
    for number, span in enumerate(row.spans):
        yield from _text(network, row.input_ids[position : span.start])
        yield medium_of(span), number
        position = span.stop
    yield from _text(network, row.input_ids[position:])


def medium_of(span: SignalSpan) -> ReplyPart:
    """The part of a medium that is not drawn yet."""
    return ReplyPart(span.modality.value, caption=span.caption or None, tokens=span.stop - span.start)


def _text(network: NextGPT, ids: list[int]) -> Iterator[tuple[ReplyPart, None]]:
    text = network.llm.tokenizer.decode(ids, skip_special_tokens=True).strip()
    if text:
        yield ReplyPart("text", text=text, tokens=len(ids)), None
