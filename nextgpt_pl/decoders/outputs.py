"""What a pipeline's ``encode_prompt`` returns, as arguments of its call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from nextgpt_pl.decoders.layout import Block, TextLayout
from nextgpt_pl.errors import UserError


def from_outputs(layout: TextLayout, outputs: Sequence[Any], count: int, negative: bool = False) -> dict[str, Any]:
    """Arguments of the call, by name, from what ``encode_prompt`` returned.

    The outputs are told apart by rank and type: of each kind, they have the order of the layout's blocks. Negative
    outputs come after positive ones, or in the first half of a doubled batch.

    Args:
        layout: the pipeline's layout.
        outputs: what ``encode_prompt`` returned.
        count: N.
        negative: take the negative outputs if there are any.

    Raises:
        UserError: an output is missing.

    """
    states = [block for block in layout.blocks if not block.pooled]
    names = {
        "states": [block.name for block in states],
        "mask": [block.mask for block in states if block.mask],
        "pooled": [block.name for block in layout.blocks if block.pooled],
    }
    found: dict[str, list[Any]] = {kind: [] for kind in names}
    for output in outputs:
        kind = _kind(output, states, bool(names["pooled"]), count)
        if kind is not None:
            doubled = isinstance(output, Tensor) and output.ndim < 4 and len(output) == 2 * count
            found[kind].append(output[:count] if doubled and negative else output[-count:] if doubled else output)
    values: dict[str, Any] = {}
    for kind, wanted in names.items():
        # each positive output is followed by its negative one
        chosen = found[kind][int(negative) :: 2] if len(found[kind]) >= 2 * len(wanted) else found[kind]
        if len(chosen) < len(wanted) and kind != "mask":
            raise UserError(f"decoder: the pipeline's encode_prompt returned no {wanted[len(chosen)]}")
        values |= dict(zip(wanted, chosen, strict=False))
    return values


def _kind(output: Any, states: Sequence[Block], pooled: bool, count: int) -> str | None:
    """What an output of ``encode_prompt`` is; ``None``: nothing of the layout, such as positions of tokens."""
    if isinstance(output, list):
        return "states" if output and isinstance(output[0], Tensor) else None
    if not isinstance(output, Tensor):
        return None
    if output.ndim != 2:
        return "states" if output.shape[-1] in {block.width for block in states} else None
    if len(output) not in (count, 2 * count):
        return None
    return "pooled" if pooled and output.is_floating_point() else "mask"
