"""A frozen causal language model of the transformers library, with trainable rows for the signal tokens."""

from __future__ import annotations

import copy
import importlib.util
import inspect
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging

from nextgpt_pl import published
from nextgpt_pl.errors import UserError, nearest
from nextgpt_pl.llm.head_loss import token_cross_entropy
from nextgpt_pl.llm.signal_rows import ExtendedEmbedding, ExtendedHead, initial_rows
from nextgpt_pl.paths import resolve

_LOGITS = 2**21  # at a time: 8 MiB in float32

DType = Literal["float32", "bfloat16", "float16"]


@dataclass
class LoRA:
    """Low-rank updates of the LLM's layers (paper: r = 32 on the attention's four projections).

    Args:
        r: rank.
        alpha: the update is scaled by alpha / r.
        dropout: on the update's input.
        target_modules: names of the layers.

    """

    r: int = 32
    alpha: int = 32
    dropout: float = 0.1
    target_modules: list[str] = field(default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj"])

    def __post_init__(self) -> None:
        if self.r < 1:
            raise UserError(f"lora.r={self.r}: a rank is at least 1")
        if not 0 <= self.dropout < 1:
            raise UserError(f"lora.dropout={self.dropout}: a probability, below 1")


class CausalLM(nn.Module):
    """Any ``AutoModelForCausalLM``, by hub id or folder. The constructor is instant; :meth:`load` reads weights.

    Args:
        path: hub id, folder, or ``pocket:llm``.
        gguf_file: name of a GGUF file in ``path``, to be read instead of safetensors.
        dtype: of the frozen weights; what trains is float32 whatever this says.
        chat_template: a Jinja template instead of the tokenizer's own.
        extra_tokens: tokens put behind the model's own vocabulary, in front of the signal tokens, frozen; official
            checkpoints have ``<Img>`` and ``</Img>`` there.
        stop: texts that end a reply besides the end token, such as the ``###`` of the legacy official code.
        attention: attention implementation of transformers (``sdpa``, ``eager``, ``flash_attention_2``).
        gradient_checkpointing: recompute activations in the backward pass, to save memory.
        length_groups: run a batch as so many groups of rows of like length, each without the others' padding. The
            result is the same. Not with sharded weights, where every pass is a communication: there it counts as 1.
        quantization: arguments of transformers' ``BitsAndBytesConfig``, such as ``{load_in_4bit: true}``: the frozen
            layers are read in fewer bits (QLoRA); needs the extra ``qlora``.
        frozen_prefix: run what stands before the first trainable embedding without keeping it for the backward pass,
            which it cannot reach. The result is the same. Not with sharded weights either.

    """

    def __init__(
        self,
        path: str,
        gguf_file: str | None = None,
        dtype: DType = "float32",
        chat_template: str | None = None,
        extra_tokens: list[str] | None = None,
        stop: list[str] | None = None,
        attention: str = "sdpa",
        gradient_checkpointing: bool = False,
        length_groups: int = 1,
        frozen_prefix: bool = False,
        quantization: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if length_groups < 1:
            raise UserError(f"llm.length_groups={length_groups}: at least 1")
        if frozen_prefix and gradient_checkpointing:
            raise UserError("llm.frozen_prefix and llm.gradient_checkpointing exclude each other: set one of them")
        self.length_groups, self.frozen_prefix = length_groups, frozen_prefix
        self.extra_tokens, self.stop = list(extra_tokens or []), list(stop or [])
        self.path, self.gguf_file, self.dtype_name = path, gguf_file, dtype
        self.chat_template, self.attention = chat_template, attention
        self.gradient_checkpointing = gradient_checkpointing
        self.quantization = dict(quantization or {})
        self.model: Any = None
        self.in_step = False  # every process must run as many passes as the others
        #: read the layers when the first pass needs them: where all states are in a cache, never
        self.layers_on_demand = False
        self._layers_missing = False
        self.lora: dict[str, Any] | None = None

    def _source(self) -> dict[str, Any]:
        path = resolve(self.path)
        source: dict[str, Any] = {"pretrained_model_name_or_path": path}
        if self.gguf_file:
            if Path(path).is_dir() and not (Path(path) / self.gguf_file).is_file():
                raise UserError(f"gguf_file={self.gguf_file!r}: no such file in {path}")
            source["gguf_file"] = self.gguf_file
        return source

    @cached_property
    def config(self) -> Any:
        """The model's configuration; reads no weights.

        Raises:
            UserError: ``path`` is neither a folder with a model nor a known hub id.

        """
        known = None if self.gguf_file else published.read(self.path, "config.json")
        if known is not None:
            return AutoConfig.for_model(**known)
        try:
            return AutoConfig.from_pretrained(**self._source())
        except (OSError, ValueError) as error:
            raise UserError(f"llm.path={self.path!r}: {str(error).splitlines()[0]}") from error

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer, with the chat template of the YAML if it gives one.

        Raises:
            UserError: there is no chat template at all.

        """
        tokenizer = AutoTokenizer.from_pretrained(**self._source())
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
        dtype = getattr(torch, self.dtype_name)
        if torch.get_default_device().type == "meta":
            config = copy.deepcopy(self.config)  # the model's own says more rows below
            model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=self.attention)
        else:
            # a GGUF file is read whole, quantized layers are placed as they are read
            self._layers_missing = self.layers_on_demand and not self.gguf_file and not self.quantization
            model = self._without_layers() if self._layers_missing else self._read()
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
            model.gradient_checkpointing_enable({"use_reentrant": False})
        return model.eval()

    def _read(self, **changes: Any) -> Any:
        """The model with its weights."""
        arguments = {**self._source(), **self._quantized(), **changes}
        return AutoModelForCausalLM.from_pretrained(
            **arguments, dtype=getattr(torch, self.dtype_name), attn_implementation=self.attention
        )

    def _without_layers(self) -> Any:
        """Embedding, final norm and head; of the other weights in the files nothing is read."""
        config = copy.deepcopy(self.config)
        config.num_hidden_layers = 0
        if getattr(config, "layer_types", None):
            config.layer_types = []
        verbosity = logging.get_verbosity()
        logging.set_verbosity_error()  # it would list the layers' weights as superfluous
        try:
            return self._read(config=config)
        finally:
            logging.set_verbosity(verbosity)

    def complete(self) -> None:
        """Read the layers that :attr:`layers_on_demand` has put off."""
        if not self._layers_missing:
            return
        self._layers_missing = False
        embedding, head = self.model.get_input_embeddings(), self.model.get_output_embeddings()
        with torch.random.fork_rng([]):
            model = self._read()
        self.model = self._extended(model, embedding, head).to(head.rows.device)

    def _add_extra_rows(self, model: Any) -> None:
        """Rows for ``extra_tokens``, near the mean of the others."""
        count = len(self.extra_tokens)
        model.resize_token_embeddings(self.vocab_size, mean_resizing=False)
        with torch.no_grad():
            for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
                layer.weight[-count:] = initial_rows(layer.weight[:-count], count).to(layer.weight.dtype)

    def _quantized(self) -> dict[str, Any]:
        """Arguments of ``from_pretrained`` that read the frozen layers in fewer bits.

        Raises:
            UserError: bitsandbytes is not installed, or does not take an argument.

        """
        if not self.quantization:
            return {}
        if importlib.util.find_spec("bitsandbytes") is None:
            raise UserError("llm.quantization needs bitsandbytes: pip install 'nextgpt-pl[qlora]'")
        from transformers import BitsAndBytesConfig

        known = inspect.signature(BitsAndBytesConfig).parameters
        for name in self.quantization:
            if name not in known:
                raise UserError(f"llm.quantization.{name}: no such key{nearest(name, known)}")
        # quantized layers are made where they stay: on the process's own device
        device = torch.cuda.current_device() if torch.cuda.is_available() else "cpu"
        return {"quantization_config": BitsAndBytesConfig(**self.quantization), "device_map": {"": device}}

    def train(self, mode: bool = True) -> CausalLM:
        """Frozen layers stay in evaluation mode; only what a stage adds (LoRA's dropout) follows ``mode``."""
        super().train(mode)
        if self.model is not None:
            self.model.train(mode and self.gradient_checkpointing)
            for name, module in self.model.named_modules():
                if "lora_dropout" in name:
                    module.train(mode)
        return self

    def add_lora(self, lora: LoRA) -> None:
        """Add low-rank updates to the frozen layers (peft); they start as zero, in float32.

        Raises:
            UserError: other ones are there already, or no layer has such a name.

        """
        wanted = asdict(lora)
        if self.lora is not None:
            if self.lora != wanted:
                raise UserError(f"LoRA {wanted} is asked for, but the weights that were taken over have {self.lora}")
            return
        from peft import LoraConfig, inject_adapter_in_model

        self.complete()
        config = LoraConfig(
            r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=list(lora.target_modules)
        )
        try:
            inject_adapter_in_model(config, self.model)
        except ValueError as error:
            raise UserError(f"lora.target_modules={list(lora.target_modules)}: {str(error).splitlines()[0]}") from error
        for name, parameter in self.model.named_parameters():
            if "lora_" in name:
                parameter.data = parameter.data.float()
        self.lora = wanted

    def word_embeddings(self) -> Tensor:
        """The frozen vocabulary's embeddings ``(V, H)``, without the signal tokens' rows."""
        return self.model.get_input_embeddings().base.weight

    def embed(self, ids: Tensor) -> Tensor:
        """Token embeddings ``(B, T, H)``."""
        return self.model.get_input_embeddings()(ids)

    def forward(self, inputs_embeds: Tensor, attention_mask: Tensor, frozen_until: Tensor | None = None) -> Tensor:
        """Hidden states ``(B, T, H)`` after the final norm; no logits and no other layer's states are kept.

        Args:
            inputs_embeds: ``(B, T, H)``.
            attention_mask: ``(B, T)``, padding on the right.
            frozen_until: ``(B,)``, how many leading positions of each row nothing trainable enters; unknown if absent.

        """
        if self.length_groups == 1 and not self.frozen_prefix:
            return self._states(inputs_embeds, attention_mask, 0)
        total = attention_mask.shape[1]
        order = attention_mask.sum(1).argsort(descending=True, stable=True)
        found = []
        for rows in order.tensor_split(min(self.length_groups, len(order))):
            longest = int(attention_mask[rows].sum(1).max())
            prefix = 0
            if self.frozen_prefix and frozen_until is not None and not self._layers_train():
                prefix = int(frozen_until[rows].min().clamp(max=longest - 1))
            states = self._states(inputs_embeds[rows, :longest], attention_mask[rows, :longest], prefix)
            found.append(F.pad(states, (0, 0, 0, total - longest)))
        return torch.cat(found)[order.argsort()]

    def _states(self, inputs_embeds: Tensor, attention_mask: Tensor, prefix: int) -> Tensor:
        """One pass; the first ``prefix`` positions of it without a graph."""
        self.complete()
        base, cache, first = self.model.base_model, None, []
        if prefix:
            with torch.no_grad():
                start = base(
                    inputs_embeds=inputs_embeds[:, :prefix], attention_mask=attention_mask[:, :prefix], use_cache=True
                )
            cache, first = start.past_key_values, [start.last_hidden_state]
        rest = base(
            inputs_embeds=inputs_embeds[:, prefix:],
            attention_mask=attention_mask,
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state
        return torch.cat([*first, rest], dim=1) if first else rest

    def blocks(self) -> list[nn.Module]:
        """The decoder layers, as the architecture itself names what is never to be split.

        Raises:
            UserError: it names none.

        """
        self.complete()
        names = set(self.model._no_split_modules or ())
        found = [module for module in self.model.modules() if type(module).__name__ in names]
        if not found:
            raise UserError(f"llm.path={self.path!r}: {type(self.model).__name__} does not say what its layers are")
        return found

    def run_once_per_batch(self) -> None:
        """One pass over each batch, however long its rows are; processes that share their weights do it together."""
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
        return token_cross_entropy(head, hidden, labels, max(1, _LOGITS // int(self.model.config.vocab_size)))

    def logits(self, hidden: Tensor) -> Tensor:
        """LM head on chosen positions, ``(N, H)`` to ``(N, V + signal tokens)``."""
        return self.model.get_output_embeddings()(hidden)


def _untied(model: Any) -> nn.Linear:
    """The model's LM head; for a tied one, a layer that shares the frozen matrix."""
    head = model.get_output_embeddings()
    assert isinstance(head, nn.Linear)
    return head
