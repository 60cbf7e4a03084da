"""The model class: a run's network, which generates whole replies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationMixin, PreTrainedModel

from nextgpt_pl.errors import UserError
from nextgpt_pl.generation.prompts import Prompt
from nextgpt_pl.generation.replies import Reply
from nextgpt_pl.hub.configuration import NextGPTConfig, ReadOnly, check_options, folder_of
from nextgpt_pl.model import NextGPT
from nextgpt_pl.pipeline import AnyToAny
from nextgpt_pl.saved_network import loaded_network


class NextGPTModel(ReadOnly, PreTrainedModel, GenerationMixin):
    """A run's network.

    Args:
        config: configuration of the folder.
        network: loaded.
        device: where it and its decoders run.

    Attributes:
        chat: generates the replies; also streams them.

    """

    config_class = NextGPTConfig
    _supports_sdpa = True

    def __init__(self, config: NextGPTConfig, network: NextGPT, device: str | torch.device = "cpu") -> None:
        super().__init__(config)
        self.network = network
        self.chat = AnyToAny(network, device)
        self.eval()

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        config: NextGPTConfig | None = None,
        trust: Sequence[str] = (),
        dtype: str | torch.dtype | None = None,
        device_map: str | int | torch.device | None = None,
        **options: Any,
    ) -> NextGPTModel:
        """Load a folder that ``push`` has written.

        Args:
            name: the folder, or ``user/name`` on the hub.
            config: of the folder.
            trust: dotted names of classes outside this package that its ``config.yaml`` may name.
            dtype: ``auto``, or the dtype that ``config.yaml`` sets.
            device_map: the only device; ``auto``: a GPU if there is one; by default the CPU.
            options: of transformers, such as ``revision`` and ``token``.

        Raises:
            UserError: the folder is not a run, names classes that are not trusted, or has another dtype; its adapter
                does not fit; or an option is unknown.

        """
        check_options(options)
        network = loaded_network(folder_of(name, options), trust)
        _check_dtype(dtype or options.get("torch_dtype"), network.llm.dtype_name)
        return cls(config or NextGPTConfig.from_pretrained(name, trust=trust, **options), network, _device(device_map))

    def to(self, *arguments: Any, **options: Any) -> NextGPTModel:
        """Move the network, and its decoders with it."""
        super().to(*arguments, **options)
        for decoder in self.network.decoders.values():
            decoder.to(self.device)
        return self

    @property
    def input_modalities(self) -> tuple[str, ...]:
        """What messages may hold."""
        return ("text", *(m.value for m in self.network.shown_modalities))

    @property
    def output_modalities(self) -> tuple[str, ...]:
        """What replies may hold."""
        return ("text", *(m.value for m in self.network.decoders))

    def generate(self, prompts: Sequence[Prompt], **options: Any) -> list[Reply]:
        """The reply to each prompt.

        Args:
            prompts: of the processor, or conversations.
            options: see :meth:`nextgpt_pl.pipeline.AnyToAny.batch`.

        """
        return self.chat.batch(prompts, **options)


def _check_dtype(dtype: str | torch.dtype | None, own: str) -> None:
    name = str(dtype).removeprefix("torch.")
    if dtype is not None and name not in ("auto", own):
        raise UserError(f"dtype={name}: the folder's config.yaml sets llm.dtype: {own}; leave dtype out")


def _device(device_map: Any) -> torch.device:
    if device_map == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not isinstance(device_map, (str, int, torch.device, type(None))):
        raise UserError(f"device_map={device_map!r:.80}: one device is expected, such as 'cuda:0', or 'auto'")
    return torch.device("cpu" if device_map is None else device_map)
