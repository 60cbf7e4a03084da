"""Cost of the parts of a training step, measured on the meta device.

Each part of a step runs forward and backward with tensors of the real shapes but without data; see
:mod:`nextgpt_pl.sizing.measure`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextgpt_pl.decoders import DiffusionDecoder
from nextgpt_pl.decoders.denoising import checkpoint_blocks
from nextgpt_pl.modality import Modality
from nextgpt_pl.model import NextGPT
from nextgpt_pl.sizing.measure import Cost, countable, fused, measure, peak_bytes


def _in_half(module: Any) -> Any:
    """A bfloat16 copy, whose activations have the dtype that they have under autocast."""
    return copy.deepcopy(module).to(torch.bfloat16)


def _cast_bytes(module: nn.Module) -> int:
    """Bytes of the bfloat16 copies of weights that autocast makes and the backward pass needs."""
    single = [p for p in module.parameters() if p.dtype == torch.float32 and p.ndim > 1]
    return torch.bfloat16.itemsize * sum(p.numel() for p in single)


def llm_cost(network: NextGPT, batch: int, tokens: int, labels: int, autocast: bool = False) -> Cost:
    """The LLM's layers on ``batch`` rows of ``tokens``, its head and the cross-entropy on ``labels`` positions.

    All layers are equal, so the cost is extrapolated from one and two layers. With gradient checkpointing layers run
    forward twice, and only their inputs and one layer's states are kept. Logits are computed for a chunk of positions
    at a time.
    """
    llm = network.llm
    count, casts = int(llm.config.num_hidden_layers), _cast_bytes(llm.blocks()[0]) if autocast else 0
    model = _in_half(llm.model) if autocast else llm.model
    dtype = model.get_input_embeddings().base.weight.dtype

    def states() -> Tensor:
        inputs = torch.empty(batch, tokens, llm.hidden_size, device="meta", dtype=dtype, requires_grad=True)
        return model.base_model(inputs_embeds=inputs, use_cache=False).last_hidden_state

    def head() -> Tensor:
        hidden = torch.empty(labels, llm.hidden_size, device="meta", dtype=dtype, requires_grad=True)
        targets = torch.empty(labels, device="meta", dtype=torch.long)
        return F.cross_entropy(model.get_output_embeddings()(hidden).float(), targets)

    with countable(model):
        one_layer, two_layers = (_with_layers(model.base_model, n, partial(measure, states, model)) for n in (1, 2))
        top = measure(head, model)
    layer = two_layers + one_layer.times(-1)
    outside_layers = one_layer + layer.times(-1)
    layer = layer + Cost(kept=casts)
    # the loss also computes the gradient of the states at the labels
    head_bytes = int((top.kept + top.passing) * min(1.0, llm.logits_at_once / labels))
    top = Cost(top.forward, top.backward, labels * llm.hidden_size * dtype.itemsize, head_bytes)
    if llm.gradient_checkpointing:
        inputs = batch * tokens * llm.hidden_size * dtype.itemsize
        layer = Cost(layer.forward, layer.backward + layer.forward, inputs, layer.kept + layer.passing)
    return outside_layers + layer.times(count) + top


def _with_layers(base: Any, count: int, function: Callable[[], Cost]) -> Cost:
    """Run ``function`` while the model has its first ``count`` layers only."""
    layers = base.layers
    base.layers = layers[:count]
    try:
        return function()
    finally:
        base.layers = layers


def encoder_costs(network: NextGPT) -> dict[Modality, Cost]:
    """The frozen encoder on one medium of each modality, forward only."""
    encoder = network.encoder
    assert encoder is not None

    @torch.no_grad()
    def step(modality: Modality) -> Tensor:
        return encoder(modality, encoder.blank(modality).to("meta"))

    with countable(network.llm.model):
        return {modality: measure(partial(step, modality), encoder) for modality in encoder.modalities}


def input_projection_costs(network: NextGPT, media: int, autocast: bool = False) -> dict[Modality, Cost]:
    """Cost of the input projection of each modality on the features of ``media`` media."""
    encoder = network.encoder
    assert encoder is not None
    known: dict[tuple[int, int], Cost] = {}
    costs_by_modality = {}
    for modality in encoder.modalities:
        trained = network.input_projection(modality).eval()  # the grouping projection costs the same in training
        key = (id(trained), encoder.tokens(modality))
        if key not in known:
            projection = _in_half(trained) if autocast else trained
            like = torch.empty(
                media,
                encoder.tokens(modality),
                encoder.width(modality),
                device="meta",
                dtype=torch.bfloat16 if autocast else torch.float32,
            )
            casts = Cost(kept=_cast_bytes(trained) if autocast else 0)
            known[key] = measure(partial(projection, like), projection) + casts
        costs_by_modality[modality] = known[key]
    return costs_by_modality


def output_projection_cost(network: NextGPT, modality: Modality, spans: int, autocast: bool = False) -> Cost:
    """Cost of one output projection and its alignment loss on ``spans`` spans of signal tokens."""
    own = network.output_projections[modality.value]
    projection = _in_half(own) if autocast else own
    dtype = torch.bfloat16 if autocast else torch.float32
    shape = (spans, network.num_signal_tokens[modality], network.llm.hidden_size)

    def step() -> Tensor:
        hidden = torch.empty(shape, device="meta", dtype=dtype, requires_grad=True)
        return projection(hidden, torch.empty(shape, device="meta", dtype=dtype)).square().mean()

    return measure(step, projection) + Cost(kept=_cast_bytes(own) if autocast else 0)


def denoising_cost(decoder: DiffusionDecoder, modality: Modality) -> Cost:
    """The frozen denoiser on one medium, forward and backward into the embedding, in chunks of ``loss_batch`` media.

    With gradient checkpointing its blocks run forward twice, and only their inputs are kept in between.
    """
    dtype = getattr(torch, decoder.dtype_name)
    denoiser = decoder.denoiser(weights=False).to(dtype)
    if decoder.gradient_checkpointing:
        checkpoint_blocks(denoiser.network)
    latents = (1, *decoder.latent_shape(modality is Modality.VIDEO))

    def step() -> Tensor:
        like: dict[str, Any] = {"device": "meta", "dtype": dtype}
        embeddings = torch.empty(1, *decoder.embedding_shape, requires_grad=True, **like)
        timesteps = torch.empty(1, device="meta", dtype=torch.long)
        return denoiser(torch.empty(latents, **like), timesteps, embeddings)

    with fused():
        cost, held = measure(step, denoiser), peak_bytes(step, denoiser)
    return Cost(cost.forward, cost.backward, 0, decoder.loss_batch * held)
