"""Broadcast the weights that rank 0 has read, so that only one process reads files and holds all full tensors.

The other ranks build the same network on the meta device. All tensors are broadcast: parameters, buffers (also
non-persistent ones such as rotary frequencies), and tensors in plain attributes.
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
    """Compare names and shapes of the network's tensors with those of rank 0, and adopt its settings from files.

    These are dtypes (transformers keeps some weights in float32 whatever ``llm.dtype`` is) and generation defaults.

    Raises:
        UserError: a tensor is missing, unexpected, or has another shape than on rank 0.

    """
    own = {name: (tuple(t.shape), t.dtype) for name, _, _, _, t in _tensors(network)}
    sent: list[Any] = [(own, network.llm.model.generation_config)]
    dist.broadcast_object_list(sent)
    layout, network.llm.model.generation_config = sent[0]
    problems = sorted(own.keys() ^ layout.keys())
    problems += [name for name in own if name in layout and own[name][0] != layout[name][0]]
    if problems or list(own) != list(layout):
        raise UserError(
            "the weight files of the frozen parts do not match their configurations, so rank 0 cannot broadcast them:"
            f" {', '.join(problems[:5])}"
        )
    cast: dict[int, Tensor] = {}  # by id: several modules may share a tensor
    for name, owner, kind, key, tensor in list(_tensors(network)):
        if tensor.is_meta and tensor.dtype != layout[name][1]:
            if id(tensor) not in cast:
                cast[id(tensor)] = _like(tensor, tensor.detach().to(layout[name][1]))
            _put(owner, kind, key, cast[id(tensor)])


class Sender:
    """Broadcasts the tensors of modules from rank 0. Collective: the same modules in the same order on all ranks.

    Args:
        device: device of the process group, where the tensors stay.

    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._sent: dict[int, Tensor] = {}  # by id: several modules may share a tensor

    def send(self, module: nn.Module) -> None:
        """Replace all tensors of a module that are not sharded yet by those of rank 0."""
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
                full = torch.empty(tensor.shape, dtype=tensor.dtype, device=self.device)
            else:
                full = tensor.detach().to(self.device).contiguous()
            # as bytes, since backends do not support every dtype
            if full.numel():
                dist.broadcast(full.view(-1).view(torch.uint8), 0)
        return _like(tensor, full)


def _tensors(module: nn.Module) -> Iterator[tuple[str, nn.Module, Kind, str, Tensor]]:
    """Name, owner, kind, key and value of each tensor, in the order of the modules; shared tensors repeatedly."""
    for path, owner in module.named_modules(remove_duplicate=True):
        kinds: tuple[tuple[Kind, Any], ...] = (
            ("parameter", owner._parameters),
            ("buffer", owner._buffers),
            ("attribute", {k: v for k, v in vars(owner).items() if isinstance(v, Tensor)}),
        )
        for kind, members in kinds:
            for key, tensor in members.items():
                if tensor is not None:
                    yield f"{path}.{key}", owner, kind, key, tensor


def _like(before: Tensor, value: Tensor) -> Tensor:
    return nn.Parameter(value, before.requires_grad) if isinstance(before, nn.Parameter) else value


def _put(owner: nn.Module, kind: Kind, key: str, tensor: Tensor) -> None:
    dictionaries: dict[Kind, Any] = {"parameter": owner._parameters, "buffer": owner._buffers, "attribute": vars(owner)}
    dictionaries[kind][key] = tensor
