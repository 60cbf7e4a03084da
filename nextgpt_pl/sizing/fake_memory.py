"""Peak memory of a training step, measured by a forward and backward pass on fake tensors.

Fake tensors have a shape, a dtype and a device, but no data. The bytes that each operation would allocate and free on a
real device are counted, saved activations included.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from nextgpt_pl.decoders import DiffusionDecoder
from nextgpt_pl.losses import caption_alignment
from nextgpt_pl.modality import Modality
from nextgpt_pl.model import NextGPT
from nextgpt_pl.sizing.budget import Workload
from nextgpt_pl.sizing.live_bytes import LiveBytes
from nextgpt_pl.sizing.measure import countable, fused


def activation_peak(network: NextGPT, work: Workload, modality: Modality | None = None) -> int:
    """Peak bytes of a step of ``work.batch`` samples of one modality, without weights and optimizer states.

    The step consists of input projection, the LLM's layers, its head on the labels, output projection and denoising
    loss, forward and backward, under the trainer's autocast. Fake tensors are on ``cuda`` if a driver is installed,
    which torch needs for a backward pass there, else on ``cpu``.

    Args:
        network: on the meta device; not modified.
        work: sizes of the step on one GPU.
        modality: modality of all samples; ``None``: text only.

    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    step = _Step(network, work, modality, device)
    live = LiveBytes()
    with FakeTensorMode(allow_non_fake_inputs=True), countable(step.modules["llm"].model), fused():
        step.materialize()
        live.count([list(module.parameters()) for module in step.modules.values()])
        start = live.now
        with live:
            with torch.autocast(device, torch.bfloat16, enabled=work.autocast):
                loss = step()
            loss.backward()
    return live.peak - start


class _Step:
    """Copies of the parts that a step runs, on another device."""

    def __init__(self, network: NextGPT, work: Workload, modality: Modality | None, device: str) -> None:
        self.network, self.work, self.modality, self.device = network, work, modality, device
        self.modules: dict[str, Any] = {"llm": copy.deepcopy(network.llm)}
        if modality is None:
            return
        if work.shown and network.encoder is not None and modality in network.encoder.modalities:
            self.modules["input"] = copy.deepcopy(network.input_projection(modality)).eval()
        if work.made and modality in network.projected:
            self.modules["output"] = copy.deepcopy(network.output_projections[modality.value])
        if modality in work.denoised:
            decoder = network.decoders[modality]
            assert isinstance(decoder, DiffusionDecoder)
            self.modules["denoiser"] = decoder.denoiser(weights=False).to(getattr(torch, decoder.dtype_name))
            self.scheduler = decoder.files.part_class("scheduler").from_config(
                decoder.files.json("scheduler_config.json", "scheduler")
            )

    def materialize(self) -> None:
        """Move the weights to the device; must be called in a fake tensor mode."""
        for module in self.modules.values():
            module.to_empty(device=self.device).train()
        # the LLM recomputes activations in training mode only; input projection and denoiser run in evaluation mode
        for name in ("input", "denoiser"):
            if name in self.modules:
                self.modules[name].eval()

    def __call__(self) -> Tensor:
        """The loss."""
        llm, work = self.modules["llm"], self.work
        dtype = llm.word_embeddings().dtype
        shape = (work.batch, work.tokens, llm.hidden_size)
        embeddings = torch.empty(shape, dtype=dtype, device=self.device, requires_grad=True)
        if "input" in self.modules:
            embeddings = self._with_media(embeddings)
        hidden = llm.model.base_model(inputs_embeds=embeddings, use_cache=False).last_hidden_state
        labels = torch.empty(work.batch * work.labels, dtype=torch.long, device=self.device)
        total, _ = llm.cross_entropy(hidden[:, : work.labels].flatten(0, 1), labels)
        if "output" in self.modules:
            total = total + self._media_losses(hidden, embeddings)
        return total

    def _with_media(self, embeddings: Tensor) -> Tensor:
        encoder = self.network.encoder
        assert encoder is not None
        assert self.modality is not None
        shape = (self.work.batch, encoder.tokens(self.modality), encoder.width(self.modality))
        projected = self.modules["input"](torch.empty(shape, device=self.device)).to(embeddings.dtype)
        return torch.cat([projected, embeddings[:, projected.shape[1] :]], dim=1)[:, : embeddings.shape[1]]

    def _media_losses(self, hidden: Tensor, embeddings: Tensor) -> Tensor:
        assert self.modality is not None
        decoder, count = self.network.decoders[self.modality], self.network.num_signal_tokens[self.modality]
        predicted = self.modules["output"](hidden[:, :count].float(), embeddings[:, :count].float())
        total = caption_alignment(predicted, torch.empty_like(predicted))
        if "denoiser" not in self.modules:
            return total
        assert isinstance(decoder, DiffusionDecoder)
        shape = decoder.latent_shape(self.modality is Modality.VIDEO)
        # all chunks of the loss are equal; two are enough, since the second one reuses the memory of the first
        count = min(self.work.batch, 2 * decoder.loss_batch)
        latents = torch.empty(count, *shape, device=self.device)
        shaped = predicted[:count].view(-1, *decoder.embedding_shape)
        denoiser = self.modules["denoiser"]
        return total + decoder.loss_through(denoiser, self.scheduler, shaped, latents, 5.0, torch.Generator())
