"""Weights that one process has read, sent to all others, so that a file is read once and held whole once.

The other processes have built the same network on the meta device. Everything that is a tensor is sent: parameters,
buffers, persistent or not (the rotary frequencies), and plain attributes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from nextgpt_pl.errors import UserError
from nextgpt_pl.model import NextGPT

Kind = Literal["parameter", "buffer", "attribute"]


def agree_on_layout(network: NextGPT) -> None:
    """Compare the network's tensors with those of the first process, and take over what only files say.

    Taken over are dtypes (some weights are kept in float32 whatever ``llm.dtype`` says) and the generation defaults.

    Raises:
        UserError: a tensor is missing, is superfluous, or has another shape.

    """
    own = {name: (tuple(t.shape), t.dtype) for name, _, _, _, t in _tensors(network)}
    sent: list[Any] = [(own, network.llm.model.generation_config)]
    dist.broadcast_object_list(sent)
    layout, network.llm.model.generation_config = sent[0]
    problems = sorted(own.keys() ^ layout.keys())
    problems += [name for name in own if name in layout and own[name][0] != layout[name][0]]
    if problems or list(own) != list(layout):
        raise UserError(
            "the files of the frozen parts hold other tensors than their configurations say, so they cannot be sent"
            f" from one process to the others: {', '.join(problems[:5])}"
        )
    cast: dict[int, Tensor] = {}  # by the tensor that several modules share
    for name, owner, kind, key, tensor in list(_tensors(network)):
        if tensor.is_meta and tensor.dtype != layout[name][1]:
            if id(tensor) not in cast:
                cast[id(tensor)] = _like(tensor, tensor.detach().to(layout[name][1]))
            _put(owner, kind, key, cast[id(tensor)])


class Sender:
    """Sends the tensors of modules; all processes call it for the same modules in the same order.

    Args:
        device: where processes exchange tensors, and where these are afterwards.

    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._sent: dict[int, Tensor] = {}  # by the tensor that several modules share

    def send(self, module: nn.Module) -> None:
        """All tensors of a module that are not sharded yet; the first process's are the right ones."""
        self._sent.clear()
        for _, owner, kind, key, tensor in list(_tensors(module)):
            if isinstance(tensor, DTensor):
                continue
            if id(tensor) not in self._sent:
                self._sent[id(tensor)] = self._exchanged(tensor)
            _put(owner, kind, key, self._sent[id(tensor)])
        self._sent.clear()

    def _exchanged(self, tensor: Tensor) -> Tensor:
        with torch.no_grad():
            if tensor.is_meta:
                whole = torch.empty(tensor.shape, dtype=tensor.dtype, device=self.device)
            else:
                whole = tensor.detach().to(self.device).contiguous()
            # as bytes: whatever the dtype, and to the last bit
            if whole.numel():
                dist.broadcast(whole.view(-1).view(torch.uint8), 0)
        return _like(tensor, whole)


def _tensors(module: nn.Module) -> Iterator[tuple[str, nn.Module, Kind, str, Tensor]]:
    """Name, owner, kind and key of each tensor, in the order of the modules; shared ones at each of their places."""
    for path, owner in module.named_modules(remove_duplicate=True):
        kinds: tuple[tuple[Kind, Any], ...] = (
            ("parameter", owner._parameters),
            ("buffer", owner._buffers),
            ("attribute", {k: v for k, v in vars(owner).items() if isinstance(v, Tensor)}),
        )
        for kind, found in kinds:
            for key, tensor in found.items():
                if tensor is not None:
                    yield f"{path}.{key}", owner, kind, key, tensor


def _like(before: Tensor, value: Tensor) -> Tensor:
    return nn.Parameter(value, before.requires_grad) if isinstance(before, nn.Parameter) else value


def _put(owner: nn.Module, kind: Kind, key: str, tensor: Tensor) -> None:
    places: dict[Kind, Any] = {"parameter": owner._parameters, "buffer": owner._buffers, "attribute": vars(owner)}
    places[kind][key] = tensor
