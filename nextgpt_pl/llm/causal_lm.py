"""A frozen causal language model of the transformers library, with trainable rows for the signal tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from nextgpt_pl.errors import UserError
from nextgpt_pl.llm.head_loss import token_cross_entropy
from nextgpt_pl.llm.lora import LoRA, inject_lora
from nextgpt_pl.llm.pretrained import Attention, DType, Pretrained, Quantization
from nextgpt_pl.llm.signal_rows import ExtendedEmbedding, ExtendedHead, initial_rows
from nextgpt_pl.utils.compiled import compile_layers
from nextgpt_pl.utils.initial import drawn_on_cpu
from nextgpt_pl.utils.transfer import upload

_LOGITS = 2**23  # at a time: 32 MiB in float32; of fewer, multiplying by the head takes up to twice as long


class CausalLM(nn.Module):
    """Any ``AutoModelForCausalLM``, by hub id or folder. The constructor is instant; :meth:`load` reads weights.

    Args:
        path: hub id, folder, or ``pocket:llm``.
        gguf_file: name of a GGUF file in ``path``, to be read instead of safetensors.
        dtype: of the frozen weights; what trains is float32 whatever this says.
        chat_template: a Jinja template instead of the tokenizer's own.
        extra_tokens: frozen tokens between the model's own vocabulary and the signal tokens; official checkpoints have
            ``<Img>`` and ``</Img>`` there.
        stop: texts that end a reply besides the end token, such as the ``###`` of the legacy official code.
        attention: attention implementation of transformers (``sdpa``, ``eager``, ``flash_attention_2``).
        gradient_checkpointing: recompute activations in the backward pass, to save memory.
        length_groups: run a batch as so many groups of rows of like length, each without the others' padding. The
            result is the same. Not with sharded weights, where every pass is a communication: there it counts as 1.
        quantization: arguments of transformers' ``BitsAndBytesConfig``, such as ``{load_in_4bit: true}``: the frozen
            layers are read in fewer bits (QLoRA); needs the extra ``qlora``.
        frozen_prefix: run what stands before the first trainable embedding without keeping it for the backward pass,
            which it cannot reach. The result is the same. Not with sharded weights either.
        compile: compile the decoder layers with ``torch.compile``. The first training steps are slower, later ones
            faster.

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
    ) -> None:
        super().__init__()
        if length_groups < 1:
            raise UserError(f"llm.length_groups={length_groups}: at least 1")
        if frozen_prefix and gradient_checkpointing:
            raise UserError("llm.frozen_prefix and llm.gradient_checkpointing exclude each other: set one of them")
        self.length_groups, self.frozen_prefix = length_groups, frozen_prefix
        self.extra_tokens, self.stop = list(extra_tokens or []), list(stop or [])
        self.path, self.dtype_name, self.quantization = path, dtype, dict(quantization or {})
        self.pretrained = Pretrained(path, gguf_file, dtype, attention, self.quantization)
        self.chat_template, self.gradient_checkpointing = chat_template, gradient_checkpointing
        self.compiles_layers = compile
        self.model: Any = None
        self.in_step = False  # every process must run as many passes as the others
        #: read the layers when the first pass needs them: where all states are in a cache, never
        self.layers_on_demand = False
        self._layers_missing = False
        self.lora: dict[str, Any] | None = None

    @property
    def config(self) -> Any:
        """The model's configuration; reads no weights.

        Raises:
            UserError: ``path`` is neither a folder with a model nor a known hub id.

        """
        return self.pretrained.config

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer, with the chat template of the YAML if it gives one.

        Raises:
            UserError: there is no chat template, or the tokenizer cannot be read.

        """
        tokenizer = self.pretrained.tokenizer()
        if self.chat_template:
            tokenizer.chat_template = self.chat_template
        if not tokenizer.chat_template:
            raise UserError(f"llm.path={self.path!r} has no chat template: set llm.chat_template in the YAML")
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        tokenizer.add_tokens(self.extra_tokens)
        ids = tokenizer.convert_tokens_to_ids(self.extra_tokens)
        wanted = list(range(self.vocab_size - len(ids), self.vocab_size))
        if ids != wanted:
            raise UserError(f"llm.extra_tokens={self.extra_tokens} get the ids {ids}, but their rows are {wanted}")
        return tokenizer

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
        """Rows of the model's own embedding and of ``extra_tokens``: the first signal token has this id.

        The file counts, not the tokenizer: some models carry spare rows, Vicuna v0 may carry 32,001.
        """
        return int(self.config.vocab_size) + len(self.extra_tokens)

    def load(self, signal_tokens: int) -> None:
        """Read the weights, freeze them, add ``signal_tokens`` trainable rows. On the meta device nothing is read."""
        on_meta = torch.get_default_device().type == "meta"
        self._layers_missing = self.layers_on_demand and self.pretrained.in_layers and not on_meta
        model = self.pretrained.read_without_layers() if self._layers_missing else self.pretrained.read()
        rows = model.get_input_embeddings().num_embeddings
        own = self.vocab_size - len(self.extra_tokens)
        if rows != own:
            raise UserError(f"llm.path={self.path!r}: {rows} embedding rows, but its config says {own}")
        if self.extra_tokens:
            self._add_extra_rows(model)
        # made before the embedding is replaced: a tied head shares the frozen matrix, never the new rows
        head = ExtendedHead(_untied(model), signal_tokens)
        self.model = self._extended(model, ExtendedEmbedding(model.get_input_embeddings(), signal_tokens), head)

    def _extended(self, model: Any, embedding: ExtendedEmbedding, head: ExtendedHead) -> Any:
        """The model, frozen but for the signal tokens' rows."""
        model.requires_grad_(False)
        model.set_input_embeddings(embedding)
        model.set_output_embeddings(head)
        model.config.vocab_size = self.vocab_size + len(embedding.rows)
        model.config.tie_word_embeddings = False
        if self.gradient_checkpointing:
            # the name before transformers 5.24 is deprecated
            enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
            enable({"use_reentrant": False})
        if self.compiles_layers:
            compile_layers(self._layers(model))
        return model.eval()

    def complete(self) -> None:
        """Read the layers that :attr:`layers_on_demand` has put off."""
        if not self._layers_missing:
            return
        self._layers_missing = False
        embedding, head = self.model.get_input_embeddings(), self.model.get_output_embeddings()
        with torch.random.fork_rng([]):
            model = self.pretrained.read()
        self.model = self._extended(model, embedding, head).to(head.rows.device)

    def _add_extra_rows(self, model: Any) -> None:
        """Rows for ``extra_tokens``, near the mean of the others."""
        count = len(self.extra_tokens)
        model.resize_token_embeddings(self.vocab_size, mean_resizing=False)
        with torch.no_grad():
            for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
                layer.weight[-count:] = initial_rows(layer.weight[:-count], count).to(layer.weight.dtype)

    def train(self, mode: bool = True) -> CausalLM:
        """Keep frozen layers in evaluation mode; only the dropout of a trainable LoRA follows ``mode``."""
        super().train(mode)
        if self.model is not None:
            self.model.train(mode and self.gradient_checkpointing)
            lora_trains = any(p.requires_grad for name, p in self.model.named_parameters() if "lora_" in name)
            for name, module in self.model.named_modules():
                if "lora_dropout" in name:
                    module.train(mode and lora_trains)
        return self

    def add_lora(self, lora: LoRA) -> None:
        """Add low-rank updates to the frozen layers. They are frozen too until a stage trains them.

        Raises:
            UserError: other ones are there already, or no layer has such a name.

        """
        wanted = asdict(lora)
        if self.lora is not None:
            if self.lora != wanted:
                raise UserError(f"LoRA {wanted} is asked for, but the weights that were taken over have {self.lora}")
            return
        self.complete()
        with drawn_on_cpu():
            inject_lora(self.model, lora)
        self.lora = wanted
        self.train(self.training)

    def word_embeddings(self) -> Tensor:
        """The frozen vocabulary's embeddings ``(V, H)``, without the signal tokens' rows."""
        return self.model.get_input_embeddings().base.weight

    def embed(self, ids: Tensor) -> Tensor:
        """Token embeddings ``(B, T, H)``."""
        return self.model.get_input_embeddings()(ids)

    def forward(
        self, inputs_embeds: Tensor, lengths: Sequence[int] | None = None, frozen_until: Sequence[int] | None = None
    ) -> Tensor:
        """Hidden states ``(B, T, H)`` after the final norm; no logits and no other layer's states are kept.

        Rows are padded on the right, so causal attention never reads the padding from a token. No mask is passed, since
        kernels without one are faster. States at padding positions are undefined.

        Args:
            inputs_embeds: ``(B, T, H)``.
            lengths: number of tokens of each row without padding; by default T.
            frozen_until: per row, the number of leading positions whose embeddings are all frozen; ``None``: unknown.

        """
        if self.length_groups == 1 and not self.frozen_prefix:
            return self._states(inputs_embeds, 0)
        count, total, _ = inputs_embeds.shape
        lengths = [total] * count if lengths is None else lengths
        order = torch.tensor(lengths).argsort(descending=True, stable=True)
        frozen = frozen_until if self.frozen_prefix and not self._layers_train() else None
        found = []
        for rows in order.tensor_split(min(self.length_groups, count)):
            longest = max(lengths[i] for i in rows.tolist())
            prefix = 0 if frozen is None else min(longest - 1, *(frozen[i] for i in rows.tolist()))
            states = self._states(inputs_embeds[upload(rows, inputs_embeds.device), :longest], prefix)
            found.append(F.pad(states, (0, 0, 0, total - longest)))
        return torch.cat(found)[upload(order.argsort(), inputs_embeds.device)]

    def _states(self, inputs_embeds: Tensor, prefix: int) -> Tensor:
        """One pass; the first ``prefix`` positions of it without a graph."""
        self.complete()
        base, cache, first = self.model.base_model, {}, []
        if prefix:
            with torch.no_grad():
                start = base(inputs_embeds=inputs_embeds[:, :prefix], use_cache=True)
            # what transformers calls it differs between versions
            name = "cache" if "cache" in start else "past_key_values"
            cache, first = {name: start[name]}, [start.last_hidden_state]
        rest = base(inputs_embeds=inputs_embeds[:, prefix:], use_cache=bool(prefix), **cache).last_hidden_state
        return torch.cat([*first, rest], dim=1) if first else rest

    def blocks(self) -> list[nn.Module]:
        """The decoder layers, as the architecture itself names what is never to be split.

        Raises:
            UserError: it names none.

        """
        self.complete()
        found = self._layers(self.model)
        if not found:
            raise UserError(f"llm.path={self.path!r}: {type(self.model).__name__} does not say what its layers are")
        return found

    @staticmethod
    def _layers(model: Any) -> list[nn.Module]:
        names = set(model._no_split_modules or ())
        return [module for module in model.modules() if type(module).__name__ in names]

    def run_once_per_batch(self) -> None:
        """One pass over each batch, however long its rows are; processes that share their weights do it together."""
        self.complete()  # layers that are read later would be set up as for one process
        self.length_groups, self.frozen_prefix, self.in_step = 1, False, True
        # what shards the layers recomputes them too: the library's way, around the layer, would gather weights twice
        self.model.gradient_checkpointing_disable()

    def _layers_train(self) -> bool:
        """Whether anything but the signal tokens' rows trains (LoRA, for one): then nothing is frozen."""
        rows = {id(self.model.get_input_embeddings().rows), id(self.model.get_output_embeddings().rows)}
        return any(p.requires_grad and id(p) not in rows for p in self.model.parameters())

    def cross_entropy(self, hidden: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Sums over positions ``(N, H)`` of the cross-entropy of their labels ``(N,)``, and of right predictions."""
        head = self.model.get_output_embeddings()
        return token_cross_entropy(head, hidden, labels, self.logits_at_once)

    @property
    def logits_at_once(self) -> int:
        """Number of positions per chunk of logits in :meth:`cross_entropy`."""
        return max(1, _LOGITS // int(self.model.config.vocab_size))

    def logits(self, hidden: Tensor) -> Tensor:
        """LM head on chosen positions, ``(N, H)`` to ``(N, V + signal tokens)``."""
        return self.model.get_output_embeddings()(hidden)


def _untied(model: Any) -> nn.Linear:
    """The model's LM head; for a tied one, a layer that shares the frozen matrix."""
    head = model.get_output_embeddings()
    assert isinstance(head, nn.Linear)
    return head
