"""The table of parameters that is printed when a training starts, as in the paper."""

from __future__ import annotations

from torch import nn


def parameter_table(title: str, network: nn.Module) -> str:
    """Parameters and trained parameters of each child of the network, and the trained share.

    Args:
        title: first line.
        network: its children without parameters are left out.

    """
    counts = {}
    for name, part in network.named_children():
        sizes = [(p.numel(), p.requires_grad) for p in part.parameters()]
        if sizes:
            counts[name] = (sum(size for size, trains in sizes if trains), sum(size for size, _ in sizes))
    rows = [f"  {name:<20} {total:>15,} parameters, {train:>12,} train" for name, (train, total) in counts.items()]
    trains, total = (sum(c[i] for c in counts.values()) for i in (0, 1))
    rows.append(f"  {'all':<20} {total:>15,} parameters, {trains:>12,} train ({trains / max(1, total):.2%})")
    return "\n".join([f"{title}:", *rows])
