"""What a training step costs, measured on the meta device: operations are counted, tensors have no data.

Nothing is estimated by a formula: each part of a step runs forward and backward with tensors of the real shapes, its
floating-point operations are counted, and what it keeps for the backward pass is added up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nextgpt_pl.decoders import DiffusionDecoder
from nextgpt_pl.decoders.denoising import checkpoint_blocks
from nextgpt_pl.encoders.imagebind_encoder import TOWER, ImageBindEncoder
from nextgpt_pl.modality import Modality
from nextgpt_pl.model import NextGPT

_ATTENTION = "nextgpt_pl_meta"


@dataclass(frozen=True)
class Cost:
    """Of one part of a step.

    Attributes:
        forward: floating-point operations of the forward pass.
        backward: those of the backward pass.
        kept: bytes that are kept for the backward pass.

    """

    forward: int = 0
    backward: int = 0
    kept: int = 0

    @property
    def flops(self) -> int:
        """Of both passes."""
        return self.forward + self.backward

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.forward + other.forward, self.backward + other.backward, self.kept + other.kept)

    def times(self, factor: float) -> Cost:
        """Of so many."""
        return Cost(*(int(value * factor) for value in (self.forward, self.backward, self.kept)))


def measure(step: Callable[[], Tensor], weights: nn.Module) -> Cost:
    """Run ``step`` on the meta device, and backward from what it gives if that has a gradient.

    Args:
        step: gives a tensor.
        weights: whose parameters are not counted among what is kept.

    """
    own = {p.untyped_storage()._cdata for p in weights.parameters()}
    kept: dict[int, Any] = {}

    def remember(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage  # held, so that no other takes its place
        return tensor

    with FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(remember, lambda t: t):
        out = step()
        forward = counter.get_total_flops()
        size = sum(storage.nbytes() for storage in kept.values())
        if out.requires_grad:
            out.sum().backward()
    return Cost(forward, counter.get_total_flops() - forward, size)


@contextmanager
def countable(network: NextGPT) -> Iterator[None]:
    """Attention of the LLM as a fused kernel, which keeps no T x T matrix; no fused layers, which are not counted."""
    from transformers import AttentionInterface

    AttentionInterface.register(_ATTENTION, _fused_attention)
    config, fast = network.llm.model.config, torch.backends.mha.get_fastpath_enabled()
    before = config._attn_implementation
    config._attn_implementation = _ATTENTION
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        config._attn_implementation = before
        torch.backends.mha.set_fastpath_enabled(fast)


def _fused_attention(
    _module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any
) -> tuple[Tensor, None]:
    groups = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(groups, 1) if groups > 1 else x for x in (key, value))
    half = [x.to(torch.bfloat16) for x in (query, key, value)]  # the kernel knows no float32; operations are the same
    out = torch.ops.aten._scaled_dot_product_flash_attention(*half, 0.0, True)[0]
    return out.to(query.dtype).transpose(1, 2).contiguous(), None


@contextmanager
def fused() -> Iterator[None]:
    """Attention without a mask as a fused kernel also where a network calls torch's function itself."""
    usual = F.scaled_dot_product_attention

    def attention(query: Tensor, key: Tensor, value: Tensor, *args: Any, **options: Any) -> Tensor:
        if args or options.get("attn_mask") is not None or query.ndim != 4:
            return usual(query, key, value, *args, **options)
        half = [x.to(torch.bfloat16) for x in (query, key, value)]
        return torch.ops.aten._scaled_dot_product_flash_attention(*half)[0].to(query.dtype)

    F.scaled_dot_product_attention = attention
    try:
        yield
    finally:
        F.scaled_dot_product_attention = usual


def llm_cost(network: NextGPT, batch: int, tokens: int, labels: int) -> Cost:
    """The LLM's layers on ``batch`` rows of ``tokens``, its head and the cross-entropy on ``labels`` positions.

    Layers are alike: one and two are measured. With gradient checkpointing they run forward twice, and only their
    inputs and one layer's states are kept.
    """
    llm = network.llm
    weight, count = llm.word_embeddings(), int(llm.config.num_hidden_layers)

    def states() -> Tensor:
        inputs = torch.empty(batch, tokens, llm.hidden_size, device="meta", dtype=weight.dtype, requires_grad=True)
        return llm.model.base_model(inputs_embeds=inputs, use_cache=False).last_hidden_state

    def head() -> Tensor:
        hidden = torch.empty(labels, llm.hidden_size, device="meta", dtype=weight.dtype, requires_grad=True)
        wanted = torch.empty(labels, device="meta", dtype=torch.long)
        return F.cross_entropy(llm.logits(hidden).float(), wanted)

    with countable(network):
        one, two = (_with_layers(llm.model.base_model, n, partial(measure, states, llm)) for n in (1, 2))
        top = measure(head, llm)
    layer = two + one.times(-1)
    if llm.gradient_checkpointing:
        inputs = batch * tokens * llm.hidden_size * weight.element_size()
        again = Cost(layer.forward, layer.backward + layer.forward, inputs)
        return one + again.times(count - 1) + Cost(0, layer.forward, inputs) + top
    return one + layer.times(count - 1) + top


def _with_layers(base: Any, count: int, function: Callable[[], Cost]) -> Cost:
    """``function`` while the model has its first ``count`` layers alone."""
    layers = base.layers
    base.layers = layers[:count]
    try:
        return function()
    finally:
        base.layers = layers


def encoder_costs(network: NextGPT) -> dict[Modality, Cost]:
    """The frozen encoder on one medium of each modality, forward only; clips of a medium cost as much as each other."""
    encoder = network.encoder
    assert isinstance(encoder, ImageBindEncoder)
    assert encoder.model is not None
    model, config = encoder.model, encoder.config
    clips = {Modality.IMAGE: 1, Modality.VIDEO: encoder.video_clips, Modality.AUDIO: encoder.audio_clips}
    shapes = {
        "vision": (3, config.clip_frames, config.image_size, config.image_size),
        "audio": (1, config.mel_bins, config.mel_frames),
    }

    @torch.no_grad()
    def step(tower: str) -> Tensor:
        return model(tower, torch.empty(1, 1, *shapes[tower], device="meta"), all_tokens=encoder.patches)

    with countable(network):
        of_clip = {tower: measure(partial(step, tower), model) for tower in config.towers}
    return {m: of_clip[TOWER[m]].times(clips[m]) for m in encoder.modalities}


def input_projection_costs(network: NextGPT, media: int) -> dict[Modality, Cost]:
    """The input projection of each modality on the features of so many media."""
    encoder = network.encoder
    assert encoder is not None
    known: dict[tuple[int, int], Cost] = {}
    found = {}
    for modality in encoder.modalities:
        projection = network.input_projection(modality).eval()  # sampled groups cost the same as the best ones
        key = (id(projection), encoder.tokens(modality))
        if key not in known:
            shape = (media, encoder.tokens(modality), encoder.output_dim)
            known[key] = measure(partial(_projected, projection, shape), projection)
        found[modality] = known[key]
    return found


def _projected(projection: nn.Module, shape: tuple[int, ...]) -> Tensor:
    return projection(torch.empty(shape, device="meta"))


def output_projection_cost(network: NextGPT, modality: Modality, spans: int) -> Cost:
    """One output projection on so many spans of signal tokens, and the distance to the caption embeddings."""
    projection = network.output_projections[modality.value]
    shape = (spans, network.num_signal_tokens[modality], network.llm.hidden_size)

    def step() -> Tensor:
        hidden = torch.empty(shape, device="meta", requires_grad=True)
        return projection(hidden, torch.empty(shape, device="meta")).square().mean()

    return measure(step, projection)


def denoising_cost(decoder: DiffusionDecoder, modality: Modality) -> Cost:
    """The frozen UNet on one medium, forward and backward into the embedding.

    With gradient checkpointing its blocks run forward twice, and what is kept is their inputs and the largest block.
    """
    unet: Any = decoder.files.empty_part("unet")
    unet.requires_grad_(False).to(getattr(torch, decoder.dtype_name))
    blocks = _Checkpointed()
    if decoder.gradient_checkpointing:
        checkpoint_blocks(unet, blocks)
    latents = (1, *decoder.latent_shape(modality is Modality.VIDEO))

    def step() -> Tensor:
        like = {"device": "meta", "dtype": unet.dtype}
        embeddings = torch.empty(1, *decoder.embedding_shape, requires_grad=True, **like)
        timesteps = torch.empty(1, device="meta", dtype=torch.long)
        return unet(torch.empty(latents, **like), timesteps, **decoder.unet_conditions(embeddings)).sample

    with fused():
        found = measure(step, unet)
    again = found.forward if decoder.gradient_checkpointing else 0
    return Cost(found.forward, found.backward + again, found.kept + blocks.kept)


class _Checkpointed:
    """Stands in for the function that checkpoints a block: counts what checkpointing would keep."""

    def __init__(self) -> None:
        self.inputs: dict[int, Any] = {}
        self.largest = 0

    @property
    def kept(self) -> int:
        """Bytes: all blocks' inputs, and the states of the largest block, which is recomputed alone."""
        return sum(storage.nbytes() for storage in self.inputs.values()) + self.largest

    def __call__(self, block: Callable[..., Any], *args: Any) -> Any:
        states: dict[int, Any] = {}

        def remember(tensor: Tensor) -> Tensor:
            states[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
            return tensor

        for argument in args:
            if isinstance(argument, Tensor):
                self.inputs[argument.untyped_storage()._cdata] = argument.untyped_storage()
        weights = {p.untyped_storage()._cdata for p in block.parameters()} if isinstance(block, nn.Module) else set()
        with torch.autograd.graph.saved_tensors_hooks(remember, lambda t: t):
            out = block(*args)
        size = sum(storage.nbytes() for key, storage in states.items() if key not in weights)
        self.largest = max(self.largest, size)
        return out
