"""``inspect``: print one collated batch: tokens, labels, media slots, signal spans."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nextgpt_pl.batches import Batch
from nextgpt_pl.dialogue.conversation import Conversation
from nextgpt_pl.modality import MODALITIES

_LEARNED, _SLOT, _SPAN, _PLAIN = "\033[32m", "\033[36m", "\033[35m", "\033[0m"
LEGEND = f"{_LEARNED}learned{_PLAIN}  {_SLOT}<medium shown>{_PLAIN}  {_SPAN}[signal span: caption]{_PLAIN}  context"


def inspect(argv: Sequence[str]) -> int:
    """Build model and data of ``-c FILE`` without training, and print its first training batch."""
    from nextgpt_pl.training.cli import build

    model, data = build(list(argv[1:]))
    data = data.with_renderer(model.renderer)
    batch = next(iter(data.train_dataloader()))
    print(LEGEND)
    for line in lines_of(batch, model.renderer):
        print(line)
    for note in batch.notes:
        print(f"{note.kind}: {note.reason}")
    tokens, learned = int(batch.attention_mask.sum()), int((batch.labels >= 0).sum())
    width = batch.input_ids.shape[1]
    print(
        f"{len(batch)} rows of up to {width} tokens: {tokens} tokens, {learned} learned, "
        f"{1 - tokens / batch.input_ids.numel():.0%} padding"
    )
    return 0


def lines_of(batch: Batch, conversation: Conversation, colour: bool = True) -> list[str]:
    """Decode each row of a batch to one line of text, with marks for media slots and signal spans."""
    marks = _marks(batch, conversation)
    return [
        f"{batch.keys[row]}: {_row(batch, row, marks.get(row, {}), conversation.tokenizer.decode, colour)}"
        for row in range(len(batch))
    ]


def _marks(batch: Batch, conversation: Conversation) -> dict[int, dict[int, tuple[int, str, str]]]:
    """Per row and first position: last position, colour and displayed text."""
    marks: dict[int, dict[int, tuple[int, str, str]]] = {}
    for modality, slots in batch.slots.items():
        for row, slot in slots:
            text = f"{MODALITIES[modality].placeholder[:-1]} x{slot.stop - slot.start}>"
            marks.setdefault(row, {})[slot.start] = (slot.stop, _SLOT, text)
    for modality, spans in batch.spans.items():
        length = len(conversation.signal_ids[modality])
        for row, start, caption in zip(spans.rows.tolist(), spans.starts.tolist(), spans.captions, strict=True):
            text = f"[{MODALITIES[modality].signal_prefix}0..{length - 1}: {caption}]"
            marks.setdefault(row, {})[start] = (start + length, _SPAN, text)
    return marks


def _row(
    batch: Batch, row: int, marks: dict[int, tuple[int, str, str]], decode: Callable[[Any], str], colour: bool
) -> str:
    pieces, position, length = [], 0, int(batch.attention_mask[row].sum())
    while position < length:
        if position in marks:
            position, code, text = marks[position]
        else:
            learned = bool(batch.labels[row, position] >= 0)
            start = position
            while position < length and position not in marks and bool(batch.labels[row, position] >= 0) == learned:
                position += 1
            code, text = (_LEARNED if learned else ""), decode(batch.input_ids[row, start:position].tolist())
        pieces.append(f"{code}{text}{_PLAIN}" if colour and code else text)
    return "".join(pieces)
