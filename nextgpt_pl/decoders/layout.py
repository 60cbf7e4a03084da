"""Text conditioning of a pipeline as one matrix: hidden states with their masks, and pooled vectors.

An output projection predicts one matrix. The layout stacks all inputs of a pipeline in it: each input is a block of
rows, and the masks are an additional column. Packing is lossless. Masked states have no effect and are zero.

Shapes: N captions, L tokens, D width, P width of a pooled vector, K layers of a text encoder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from nextgpt_pl.errors import UserError

Cut = Literal["longest", "list", "equal"]


@dataclass(frozen=True)
class Block:
    """Rows that hold one argument of a pipeline's call.

    Attributes:
        name: name of the argument.
        length: L; 1 for a pooled vector.
        width: D or P.
        mask: name of the argument for the mask, if there is one.
        pooled: the argument is a pooled vector ``(N, P)``.
        layers: K if the argument has the states of K layers, ``(K, N, L, D)``; 0 for ``(N, L, D)``.
        cut: what the pipeline takes if captions differ in length. ``longest``: states up to the longest caption of the
            call; ``list``: a list with the states of each caption; ``equal``: only captions of one length in a call.
            ``None``: always L states.
        may_be_empty: the mask may be zero everywhere.
        padding: states of masked tokens have an effect and are kept, because the pipeline pools over all of them.
        real_mask: the pipeline takes the mask as real numbers.

    """

    name: str
    length: int
    width: int
    mask: str | None = None
    pooled: bool = False
    layers: int = 0
    cut: Cut | None = None
    may_be_empty: bool = False
    padding: bool = False
    real_mask: bool = False

    @property
    def rows(self) -> int:
        """Rows in the packed matrix."""
        return self.length * max(1, self.layers)

    @property
    def counted(self) -> bool:
        """Whether the mask column says which rows are in use."""
        return self.mask is not None or self.cut is not None


@dataclass(frozen=True)
class TextLayout:
    """Layout of one pipeline's text conditioning.

    Attributes:
        blocks: blocks of rows, from top to bottom.

    """

    blocks: tuple[Block, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of one packed embedding."""
        return sum(block.rows for block in self.blocks), self._width + self._masked

    @property
    def _width(self) -> int:
        return max(block.width for block in self.blocks)

    @property
    def _masked(self) -> bool:
        return any(block.counted for block in self.blocks)

    def pack(self, values: Mapping[str, Tensor | Sequence[Tensor]]) -> Tensor:
        """Values of the call's arguments, by name, to ``(N, *shape)`` float32; a missing mask means all tokens.

        Raises:
            UserError: a value has another shape.

        """
        packed = []
        for block in self.blocks:
            states, mask = _matrix(block, values[block.name], values.get(block.mask or ""))
            rows = F.pad(states.float(), (0, self._width - block.width))
            if self._masked:
                column = mask.unsqueeze(-1)
                unused = column == 0 if block.counted and not block.padding else torch.zeros_like(column).bool()
                rows = torch.cat([rows.masked_fill(unused, 0), column], dim=-1)
            packed.append(rows)
        return torch.cat(packed, dim=1)

    def unpack(self, packed: Tensor, prefix: str = "") -> dict[str, Any]:
        """The call's arguments, named with ``prefix`` (``negative_``), from ``(N, *shape)``."""
        conditions: dict[str, Any] = {}
        for block, rows in self._split(packed):
            states, mask = rows[..., : block.width], self._mask(block, rows)
            name = f"{prefix}{block.name}"
            if block.pooled:
                conditions[name] = states[:, 0].contiguous()
                continue
            if block.layers:
                conditions[name] = states.unflatten(1, (block.layers, block.length)).transpose(0, 1).contiguous()
                continue
            if block.cut == "list":
                conditions[name] = [own[kept] for own, kept in zip(states, mask, strict=True)]
                continue
            length = int(_lengths(mask).max()) if block.cut else block.length
            # as the pipeline's own: matrix products of strided numbers may be summed in another order
            conditions[name] = states[:, :length].contiguous()
            if block.mask:
                conditions[f"{prefix}{block.mask}"] = mask[:, :length].to(
                    packed.dtype if block.real_mask else torch.long
                )
        return conditions

    def groups(self, packed: Tensor) -> list[list[int]]:
        """Indices of the captions ``(N, *shape)`` that one call can take, per call."""
        lengths = [_lengths(self._mask(b, rows)).tolist() for b, rows in self._split(packed) if b.cut == "equal"]
        found: dict[tuple[int, ...], list[int]] = {}
        for index in range(len(packed)):
            found.setdefault(tuple(each[index] for each in lengths), []).append(index)
        return list(found.values())

    def _split(self, packed: Tensor) -> Iterator[tuple[Block, Tensor]]:
        return zip(self.blocks, packed.split([block.rows for block in self.blocks], dim=1), strict=True)

    def _mask(self, block: Block, rows: Tensor) -> Tensor:
        """``(N, rows)`` bool."""
        mask = rows[..., -1] > 0.5
        if not block.may_be_empty:
            mask[:, 0] |= ~mask.any(1)  # attention needs at least one token
        return mask


def _matrix(block: Block, value: Tensor | Sequence[Tensor], mask: Any) -> tuple[Tensor, Tensor]:
    """Rows ``(N, rows, D)`` of a value, and their mask ``(N, rows)`` float."""
    states = [own.unsqueeze(0) if block.pooled else own for own in value] if not block.layers else []
    if block.layers:
        assert isinstance(value, Tensor)
        states = list(value.transpose(0, 1).flatten(1, 2))
    masks = [own.new_ones(len(own)) for own in states] if mask is None else list(_per_token(mask, len(states[0])))
    short = [block.rows - len(own) for own in states]
    exact = block.cut is None and any(short)
    if min(short) < 0 or exact or states[0].shape[-1] != block.width:
        raise UserError(
            f"decoder max_length: {block.name} has {len(states[0])} rows of {states[0].shape[-1]} numbers, the "
            f"pipeline's configuration says {block.rows} of {block.width}"
        )
    filled = torch.stack([F.pad(own, (0, 0, 0, more)) for own, more in zip(states, short, strict=True)])
    column = torch.stack([F.pad(own.float(), (0, more)) for own, more in zip(masks, short, strict=True)])
    return filled, column if block.counted else torch.zeros_like(column)


def _lengths(mask: Tensor) -> Tensor:
    """``(N,)``: positions up to the last one in use, of ``(N, L)`` bool."""
    return (mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)).amax(1)


def _per_token(mask: Tensor, length: int) -> Tensor:
    """A mask ``(N, L)``, or one per number of the states ``(N, L * D)``, as ``(N, L)``."""
    return mask if mask.shape[1] == length else mask.unflatten(1, (length, -1))[..., 0]
