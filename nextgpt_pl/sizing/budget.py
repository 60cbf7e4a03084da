"""Requirements of a stage: parameters, memory per GPU, operations per sample, hours, disk. Reads no weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from nextgpt_pl.decoders import Decoder, DiffusionDecoder
from nextgpt_pl.encoders.imagebind import ImageBindConfig, ImageBindModel
from nextgpt_pl.encoders.imagebind_encoder import ImageBindEncoder
from nextgpt_pl.errors import UserError
from nextgpt_pl.features import FeatureCache
from nextgpt_pl.features.rounding import element_bytes
from nextgpt_pl.modality import MODALITIES, Modality
from nextgpt_pl.model import NextGPT
from nextgpt_pl.sizing import costs
from nextgpt_pl.sizing.measure import Cost

Strategy = Literal["replicated", "sharded"]
# a float32 weight, its gradient, and AdamW's two averages
_BYTES_PER_TRAINABLE = 16
_NF4_BITS, _NF4_DOUBLE_QUANT_BITS = 4.5, 4.127


@dataclass
class Workload:
    """Sizes of one training step and of one run.

    Args:
        batch: samples per GPU and step.
        tokens: tokens per row.
        labels: tokens per row with a loss.
        gpus: number of GPUs.
        strategy: ``replicated`` (each GPU holds all weights) or ``sharded`` (all weights except the decoders' are
            sharded).
        items: samples per modality in one epoch; ``text`` for those without a medium.
        shown: whether samples contain input media.
        made: whether the assistant produces media.
        denoised: modalities with a denoising loss.
        autocast: whether trained parts and the LLM run under bfloat16 autocast; frozen decoders never do.

    """

    batch: int
    tokens: int
    labels: int
    gpus: int
    strategy: Strategy
    items: Mapping[str, int] = field(default_factory=dict)
    shown: bool = True
    made: bool = True
    denoised: Collection[Modality] = ()
    autocast: bool = False

    def __post_init__(self) -> None:
        for name in ("batch", "tokens", "labels", "gpus"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name} {getattr(self, name)}: at least 1")
        if self.labels > self.tokens:
            raise UserError(f"--labels {self.labels}: no more than the {self.tokens} tokens of a row")


def sizes(network: NextGPT) -> dict[str, dict[str, int]]:
    """Parameters of a network on the meta device, group by group and part by part."""
    groups: dict[str, dict[str, int]] = {"encoder": {}, "llm": {}}
    # a stage without input media does not load the encoder
    if network.encoder is not None and network.encoder.loaded:
        groups["encoder"] = network.encoder.parameter_counts()
    named = dict(network.llm.named_parameters())
    rows = sum(p.numel() for name, p in named.items() if name.endswith(".rows"))
    lora = sum(p.numel() for name, p in named.items() if "lora_" in name)
    groups["llm"]["frozen"] = sum(p.numel() for p in named.values()) - rows - lora
    for modality, decoder in network.decoders.items():
        groups[f"{modality} decoder"] = decoder.parameter_counts()
    groups["input projections"] = {name: count(p) for name, p in network.input_projections.items()}
    groups["lora"] = {"lora": lora} if lora else {}
    groups["output projections"] = {name: count(p) for name, p in network.output_projections.items()}
    groups["signal tokens"] = {"rows": rows}
    return {name: parts for name, parts in groups.items() if parts}


def count(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in module.parameters())


def all_imagebind_towers(network: NextGPT) -> int:
    """Parameters of ImageBind with the towers that are not built, as the paper counts them; 0 for another encoder."""
    if not isinstance(network.encoder, ImageBindEncoder) or network.encoder.config.out_dim != 1024:
        return 0
    with torch.device("meta"):
        return count(ImageBindModel(ImageBindConfig.huge()))


def frozen_llm_bytes(network: NextGPT) -> int:
    """Bytes of the LLM's frozen weights, with the actual size of quantized layers."""
    llm, total = network.llm, 0.0
    double = bool(llm.quantization.get("bnb_4bit_use_double_quant"))
    four = _NF4_DOUBLE_QUANT_BITS if double else _NF4_BITS
    bits = four if llm.quantization.get("load_in_4bit") else 8 if llm.quantization.get("load_in_8bit") else None
    for name, parameter in llm.named_parameters():
        if name.endswith(".rows") or "lora_" in name:
            continue
        inside = ".layers." in name and parameter.ndim == 2
        total += parameter.numel() * (bits / 8 if bits and inside else parameter.element_size())
    return int(total)


def step_costs(network: NextGPT, work: Workload) -> dict[str, Cost]:
    """Cost of one step of ``work.batch`` samples, part by part, per modality, as if all samples had this modality."""
    costs_by_part = {"llm": costs.llm_cost(network, work.batch, work.tokens, work.batch * work.labels, work.autocast)}
    if work.shown and network.encoder is not None:
        for modality, cost in costs.encoder_costs(network).items():
            costs_by_part[f"{modality} encoder"] = cost.times(work.batch)
        for modality, cost in costs.input_projection_costs(network, work.batch, work.autocast).items():
            costs_by_part[f"{modality} input projection"] = cost
    if work.made:
        for modality in network.projected:
            cost = costs.output_projection_cost(network, modality, work.batch, work.autocast)
            costs_by_part[f"{modality} output projection"] = cost
    for modality in work.denoised:
        decoder = network.decoders[modality]
        assert isinstance(decoder, DiffusionDecoder)
        costs_by_part[f"{modality} denoising"] = costs.denoising_cost(decoder, modality).times(work.batch)
    return costs_by_part


def flops_per_sample(costs_by_part: Mapping[str, Cost], work: Workload) -> dict[str, int]:
    """Operations of one sample of each modality, and of text alone."""
    per = {"text": costs_by_part["llm"].flops // work.batch}
    for modality in MODALITIES:
        parts = [cost for name, cost in costs_by_part.items() if name.startswith(f"{modality} ")]
        if parts:
            per[modality.value] = per["text"] + sum(c.flops for c in parts) // work.batch
    return per


def memory(network: NextGPT, trains: int, costs_by_part: Mapping[str, Cost], work: Workload) -> dict[str, int]:
    """Bytes on one GPU, by part; without the allocator's overhead and without media generated in validation."""
    share = work.gpus if work.strategy == "sharded" else 1
    llm = frozen_llm_bytes(network)
    rows = {"LLM, frozen": llm // share}
    if share > 1:
        layers = int(network.llm.config.num_hidden_layers)
        rows["LLM, two layers gathered"] = 2 * llm // layers
    if network.encoder is not None and network.encoder.loaded:
        rows["encoder"] = sum(p.numel() * p.element_size() for p in network.encoder.parameters()) // share
    if work.made:
        text = [d.parameter_counts().get("text_encoder", 0) for d in network.decoders.values()]
        rows["text encoders, float32"] = 4 * sum(text)
    if work.denoised:
        rows["denoisers and autoencoders"] = sum(_denoiser_bytes(network.decoders[m]) for m in work.denoised)
    rows["trainables, gradients, AdamW"] = _BYTES_PER_TRAINABLE * trains // share
    rows["activations"] = max(activations(costs_by_part, modality) for modality in (None, *Modality))
    return {**rows, "all": sum(rows.values())}


def activations(costs_by_part: Mapping[str, Cost], modality: Modality | None) -> int:
    """Bytes of activations of a step whose samples are all of one modality, or all text (``None``).

    The maximum over modalities is an upper bound for any mixed batch. While a part runs, forward or backward, the
    tensors that the parts before it saved for the backward pass are held too.
    """
    order = [f"{modality} encoder", f"{modality} input projection", "llm"]
    order += [f"{modality} output projection", f"{modality} denoising"]
    kept = peak = 0
    for cost in (costs_by_part[name] for name in order if name in costs_by_part):
        kept += cost.kept
        peak = max(peak, kept + cost.passing)
    return peak


def _denoiser_bytes(decoder: Decoder) -> int:
    assert isinstance(decoder, DiffusionDecoder)
    counts = decoder.parameter_counts()
    parameters = sum(counts[name] for name in (*decoder.arrangement.parts, "vae"))
    return parameters * getattr(torch, decoder.dtype_name).itemsize


def hours(per_sample: Mapping[str, int], work: Workload, tflops: float, mfu: float) -> float:
    """Hours of one epoch over ``work.items``."""
    total = sum(per_sample.get(name, per_sample["text"]) * items for name, items in work.items.items())
    return total / (work.gpus * tflops * 1e12 * mfu) / 3600


def cache_dtype(network: NextGPT) -> str:
    """Dtype of the network's cache; without a cache, the default dtype."""
    return network.cache.dtype if network.cache else FeatureCache.dtype


def cache_bytes(network: NextGPT, work: Workload) -> dict[str, int]:
    """Disk space of cached features of ``work.items``: encoder features, caption embeddings."""
    dtype = cache_dtype(network)
    rows: dict[str, Any] = {"encoder features": 0, "caption embeddings": 0}
    for modality in Modality:
        items = work.items.get(modality.value, 0)
        if work.shown and network.encoder is not None and modality in network.encoder.modalities:
            width = network.encoder.width(modality)
            rows["encoder features"] += items * network.encoder.tokens(modality) * width * element_bytes(dtype, width)
        if work.made and modality in network.projected:
            length, width = network.projected[modality].projection_shape
            rows["caption embeddings"] += items * length * width * element_bytes(dtype, width)
    return {name: round(size) for name, size in rows.items() if size}
