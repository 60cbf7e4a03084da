"""A frozen causal language model of the transformers library, with trainable rows for the signal tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from nextgpt_pl.errors import UserError
from nextgpt_pl.llm import assembly
from nextgpt_pl.llm.end_tokens import end_tokens
from nextgpt_pl.llm.head_loss import positions_at_once, token_cross_entropy
from nextgpt_pl.llm.lora import LoRA, inject_lora, merge_lora, set_dropout
from nextgpt_pl.llm.own_logits import own_logits
from nextgpt_pl.llm.packing import check_packing
from nextgpt_pl.llm.passes import Passes
from nextgpt_pl.llm.pretrained import Attention, DType, Pretrained, Quantization
from nextgpt_pl.llm.signal_rows import ExtendedEmbedding, ExtendedHead
from nextgpt_pl.llm.tokens import prepared_tokenizer
from nextgpt_pl.utils.compiled import compile_layers
from nextgpt_pl.utils.initial import drawn_on_cpu


class CausalLM(nn.Module):
    """Any ``AutoModelForCausalLM``, by hub id or folder. The constructor is instant; :meth:`load` reads weights.

    Args:
        path: hub id, folder, or ``pocket:llm``.
        gguf_file: name of a GGUF file in ``path``, to be read instead of safetensors.
        dtype: dtype of the frozen weights; trainable parameters are always float32.
        chat_template: Jinja template that replaces the tokenizer's.
        extra_tokens: frozen tokens between the model's own vocabulary and the signal tokens; official checkpoints have
            ``<Img>`` and ``</Img>`` there.
        stop: texts that end a reply besides the end token, such as the ``###`` of the legacy official code.
        attention: attention implementation of transformers (``sdpa``, ``eager``, ``flash_attention_2``).
        gradient_checkpointing: recompute activations in the backward pass, to save memory.
        length_groups: number of forward passes of a batch, over groups of rows of similar length with less padding. The
            result is the same. Ignored with sharded weights, where the number of passes must be equal on all ranks.
        quantization: arguments of transformers' ``BitsAndBytesConfig``, such as ``{load_in_4bit: true}``: the frozen
            layers are read in fewer bits (QLoRA); needs the extra ``qlora``.
        frozen_prefix: run the positions before the first trainable embedding without an autograd graph, since gradients
            do not reach them. The result is the same. Ignored with sharded weights.
        packing: join the rows of a batch into fewer rows without padding, for one forward pass; attention stays within
            each row. The result is the same. For batches of short and long rows; also with sharded weights. Recurrent
            models are refused.
        compile: compile the decoder layers (``torch.compile``). First training steps are slower, later ones faster.

    """

    def __init__(
        self,
        path: str,
        gguf_file: str | None = None,
        dtype: DType = "float32",
        chat_template: str | None = None,
        extra_tokens: list[str] | None = None,
        stop: list[str] | None = None,
        attention: Attention = "sdpa",
        gradient_checkpointing: bool = False,
        length_groups: int = 1,
        frozen_prefix: bool = False,
        quantization: Quantization | None = None,
        compile: bool = False,
        packing: bool = False,
    ) -> None:
        super().__init__()
        if frozen_prefix and gradient_checkpointing:
            raise UserError("llm.frozen_prefix and llm.gradient_checkpointing exclude each other: set one of them")
        self.passes = Passes(length_groups, frozen_prefix, packing)
        self.extra_tokens, self.stop = list(extra_tokens or []), list(stop or [])
        self.path, self.dtype_name, self.quantization = path, dtype, dict(quantization or {})
        self.pretrained = Pretrained(path, gguf_file, dtype, attention, self.quantization)
        self.chat_template, self.gradient_checkpointing = chat_template, gradient_checkpointing
        self.compiles_layers = compile
        self.model: Any = None
        #: whether weights are sharded, so that forward passes are collective: all ranks must run the same number
        self.collective = False
        self._layers_missing = False
        self.lora: dict[str, Any] | None = None

    @property
    def config(self) -> Any:
        """See :attr:`Pretrained.config`."""
        return self.pretrained.config

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer, with the chat template of the YAML if it gives one.

        Raises:
            UserError: there is no chat template, or the tokenizer cannot be read.

        """
        first_id = self.vocab_size - len(self.extra_tokens)
        return prepared_tokenizer(self.pretrained, self.chat_template, self.extra_tokens, first_id)

    @cached_property
    def end_ids(self) -> tuple[int, ...]:
        """Ids that end an assistant's turn; of a loaded model."""
        return end_tokens(self.tokenizer, self.model.generation_config, self.vocab_size)

    @property
    def context_length(self) -> int | None:
        """The maximum number of tokens of the model; ``None``: unlimited."""
        return self.pretrained.context_length

    @property
    def hidden_size(self) -> int:
        """H."""
        return int(self.config.hidden_size)

    @property
    def vocab_size(self) -> int:
        """Rows of the model's embedding and of ``extra_tokens``; the first signal token has this id.

        The number of rows in the file counts, not that of the tokenizer, since some models have unused rows.
        """
        return int(self.config.vocab_size) + len(self.extra_tokens)

    def load(self, signal_tokens: int, layers: bool = True) -> None:
        """Read the weights, freeze them, add ``signal_tokens`` trainable rows. On the meta device nothing is read.

        Args:
            signal_tokens: number of rows.
            layers: whether the layers are read now; otherwise they are read by the first pass. Ignored on the meta
                device and for files that cannot be read in parts.

        """
        on_meta = torch.get_default_device().type == "meta"
        self._layers_missing = not layers and self.pretrained.in_layers and not on_meta
        model = self.pretrained.read_without_layers() if self._layers_missing else self.pretrained.read()
        assembly.check_rows(model, self.path, self.vocab_size - len(self.extra_tokens))
        if self.passes.packing:
            check_packing(model, self.path)
        assembly.add_vocabulary_rows(model, len(self.extra_tokens))
        self.model = self._frozen(model, *assembly.signal_layers(model, signal_tokens))

    def read_layers(self) -> None:
        """Read the layers that :meth:`load` has left out."""
        if not self._layers_missing:
            return
        self._layers_missing = False
        embedding, head = self.model.get_input_embeddings(), self.model.get_output_embeddings()
        with torch.random.fork_rng([]):
            model = self.pretrained.read()
        self.model = self._frozen(model, embedding, head).to(head.rows.device)

    def _frozen(self, model: Any, embedding: ExtendedEmbedding, head: ExtendedHead) -> Any:
        model = assembly.freeze_around(model, embedding, head)
        if self.gradient_checkpointing:
            assembly.recompute_activations(model)
        if self.compiles_layers and not self._layers_missing:
            compile_layers(assembly.decoder_layers(model, self.path))
        return model

    def train(self, mode: bool = True) -> CausalLM:
        """Keep frozen layers in evaluation mode; only the dropout of a trainable LoRA follows ``mode``."""
        super().train(mode)
        if self.model is not None:
            self.model.train(mode and self.gradient_checkpointing)
            set_dropout(self.model, mode)
        return self

    def add_lora(self, lora: LoRA) -> None:
        """Add low-rank updates to the frozen layers. They are frozen too until a stage trains them.

        Raises:
            UserError: the model has other low-rank updates, or no layer has such a name.

        """
        options = asdict(lora)
        if self.lora is not None:
            if self.lora != options:
                raise UserError(f"LoRA {options} is asked for, but the loaded adapter has {self.lora}")
            return
        self.read_layers()
        with drawn_on_cpu():
            inject_lora(self.model, lora)
        self.lora = options
        self.train(self.training)

    def merge_lora(self) -> None:
        """Make the passes of a model that is not trained faster; see :func:`~nextgpt_pl.llm.lora.merge_lora`."""
        if self.lora is not None:
            merge_lora(self.model)

    def word_embeddings(self) -> Tensor:
        """The vocabulary's frozen matrix ``(V, H)``; a token's embedding is its row times :attr:`embedding_scale`."""
        return self.model.get_input_embeddings().base.weight

    @property
    def embedding_scale(self) -> float:
        """Factor by which the model's embedding multiplies its rows, such as Gemma's."""
        return float(self.model.get_input_embeddings().scale)

    def embed(self, ids: Tensor) -> Tensor:
        """Token embeddings ``(B, T, H)``."""
        return self.model.get_input_embeddings()(ids)

    def forward(
        self, inputs_embeds: Tensor, lengths: Sequence[int] | None = None, frozen_until: Sequence[int] | None = None
    ) -> Tensor:
        """Hidden states ``(B, T, H)`` after the final norm; no logits and no other layer's states are kept.

        Rows are padded on the right, so causal attention never reads the padding from a token. No mask is passed, since
        kernels without one are faster; packed rows need one. States at padding positions are undefined.

        Args:
            inputs_embeds: ``(B, T, H)``.
            lengths: number of tokens of each row without padding; by default T.
            frozen_until: per row, the number of leading positions whose embeddings are all frozen; ``None``: unknown.

        """
        self.read_layers()
        if not self.passes.frozen_prefix or assembly.layers_train(self.model):
            frozen_until = None
        return self.passes(self.model.base_model, inputs_embeds, lengths, frozen_until)

    def blocks(self) -> list[nn.Module]:
        """See :func:`~nextgpt_pl.llm.assembly.decoder_layers`."""
        self.read_layers()
        return assembly.decoder_layers(self.model, self.path)

    def prepare_for_sharding(self) -> None:
        """Make each batch one pass on every rank, whatever the lengths of its rows."""
        self.read_layers()  # layers that are read later would not be sharded
        self.passes, self.collective = Passes(packing=self.passes.packing), True
        # the sharding strategy recomputes layers; with transformers' checkpointing, weights would be gathered twice
        self.model.gradient_checkpointing_disable()

    def cross_entropy(self, hidden: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Sums over positions ``(N, H)`` of the cross-entropy of their labels ``(N,)``, and of right predictions."""
        parameters = list(self.model.get_output_embeddings().parameters())
        return token_cross_entropy(self.logits, parameters, hidden, labels, self.logits_at_once)

    @property
    def logits_at_once(self) -> int:
        """Number of positions per chunk of logits in :meth:`cross_entropy`."""
        return positions_at_once(int(self.model.config.vocab_size))

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits of selected positions, ``(N, H)`` to ``(N, V + signal tokens)``."""
        return own_logits(self.model, hidden)
