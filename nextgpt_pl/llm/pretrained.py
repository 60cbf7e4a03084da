"""Loading of an LLM's configuration, tokenizer and weights."""

from __future__ import annotations

import copy
import importlib.util
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from nextgpt_pl import published
from nextgpt_pl.errors import UserError, nearest
from nextgpt_pl.utils.paths import resolve
from nextgpt_pl.utils.quiet import quiet_loading

# files from which transformers reads a tokenizer
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt")

DType = Literal["float32", "bfloat16", "float16"]
# a closed list, since transformers would also accept a hub id and run the kernel of that repository
Attention = Literal["sdpa", "eager", "flash_attention_2", "flash_attention_3", "flex_attention"]
Quantization = dict[str, str | bool | int | float | list[str] | None]


@dataclass
class Pretrained:
    """A model of the transformers library, by hub id or folder; the arguments are those of :class:`CausalLM`."""

    path: str
    gguf_file: str | None = None
    dtype: DType = "float32"
    attention: Attention = "sdpa"
    quantization: Mapping[str, Any] = field(default_factory=dict)

    def _source(self) -> dict[str, Any]:
        path = resolve(self.path)
        source: dict[str, Any] = {"pretrained_model_name_or_path": path, "trust_remote_code": False}
        if self.gguf_file:
            if Path(path).is_dir() and not (Path(path) / self.gguf_file).is_file():
                raise UserError(f"gguf_file={self.gguf_file!r}: no such file in {path}")
            source["gguf_file"] = self.gguf_file
        return source

    @cached_property
    def config(self) -> Any:
        """The model's configuration; reads no weights.

        Raises:
            UserError: ``path`` is neither a folder with a model nor a known hub id, or the model is not one of text
                alone.

        """
        config = self._read_config()
        if config.get_text_config() is not config:
            raise UserError(
                f"llm.path={self.path!r}: a {config.model_type} model also reads other media; the LLM must be a model"
                f" of text alone, such as one of type {config.get_text_config().model_type}"
            )
        return config

    def _read_config(self) -> Any:
        known = None if self.gguf_file else published.read(self.path, "config.json")
        if known is not None:
            return AutoConfig.for_model(**known)
        try:
            return AutoConfig.from_pretrained(**self._source())
        except (OSError, ValueError, StrictDataclassError) as error:
            raise UserError(f"llm.path={self.path!r}: {str(error).splitlines()[0]}") from error

    @property
    def context_length(self) -> int | None:
        """Maximum number of positions, including scaling of rotary embeddings; ``None``: unlimited."""
        config = self.config.get_text_config()
        longest = getattr(config, "max_position_embeddings", None)
        if not longest:
            return None
        scaling = getattr(config, "rope_parameters", None) or {}
        # one set of parameters for all layers, or one per type of layer
        kinds = [kind for kind in scaling.values() if isinstance(kind, Mapping)] or [scaling]
        scaled = [
            (kind.get("original_max_position_embeddings") or longest) * (kind.get("factor") or 1.0) for kind in kinds
        ]
        return int(max(longest, *scaled))

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer as it was published.

        Raises:
            UserError: the folder has no tokenizer, or its file is damaged.

        """
        source = self._source()
        try:
            return AutoTokenizer.from_pretrained(**source)
        except Exception as error:  # tokenizers raises plain Exceptions
            raise UserError(f"llm.path={self.path!r}: {_why_no_tokenizer(source, error)}") from error

    @property
    def in_layers(self) -> bool:
        """Whether layers can be read separately; not from GGUF files, and not for quantized layers."""
        return not self.gguf_file and not self.quantization

    def read(self, **changes: Any) -> Any:
        """The model with its weights; on the meta device nothing is read.

        Raises:
            UserError: the model does not have this attention implementation, or a weight is missing in its files.

        """
        options = {"dtype": getattr(torch, self.dtype), "attn_implementation": self.attention}
        try:
            if torch.get_default_device().type == "meta":
                # copied, since the model's configuration gets more rows later
                return AutoModelForCausalLM.from_config(copy.deepcopy(self.config), **options)
            source = {**self._source(), **self._quantized(), **changes, **options}
            with quiet_loading():
                model, report = AutoModelForCausalLM.from_pretrained(**source, output_loading_info=True)
        except ValueError as error:
            if "attention implementation" not in str(error):
                raise
            raise UserError(
                f"llm.attention={self.attention!r}: the model of llm.path={self.path!r} has no such implementation;"
                " set llm.attention=eager"
            ) from error
        if report["missing_keys"]:  # transformers fills them with random numbers
            missing = sorted(report["missing_keys"])
            raise UserError(f"llm.path={self.path!r}: its files lack {len(missing)} weights, such as {missing[0]}")
        return _trainable(model)

    def read_without_layers(self) -> Any:
        """Read embedding, final norm and head only."""
        config = copy.deepcopy(self.config)
        config.num_hidden_layers = 0
        if getattr(config, "layer_types", None):
            config.layer_types = []
        return self.read(config=config)

    def _quantized(self) -> dict[str, Any]:
        """Arguments of ``from_pretrained`` that read the frozen layers in fewer bits.

        Raises:
            UserError: bitsandbytes is not installed, or has no such argument.

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
        # quantized layers cannot be moved, so they are created on the process's device
        device = torch.cuda.current_device() if torch.cuda.is_available() else "cpu"
        return {"quantization_config": BitsAndBytesConfig(**self.quantization), "device_map": {"": device}}


def _trainable(model: Any) -> Any:
    """Prevent layers of bitsandbytes on CPUs from repacking their weights in a pass without gradients.

    A layer stays repacked, and its passes have wrong gradients from then on, without an error.
    """
    for layer in model.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False
    return model


def _why_no_tokenizer(source: Mapping[str, Any], error: Exception) -> str:
    folder, reason = Path(source["pretrained_model_name_or_path"]), (str(error).splitlines() or [repr(error)])[0]
    if not folder.is_dir() or "gguf_file" in source:
        return f"its tokenizer cannot be read: {reason}"
    files = [name for name in _TOKENIZER_FILES if (folder / name).is_file()]
    if not files:
        return f"no tokenizer file there; expected one of {', '.join(_TOKENIZER_FILES)}"
    if "tiktoken" in reason:  # the last format that transformers tries
        reason = "not a SentencePiece model"
    return f"its tokenizer cannot be read ({reason}); download {', '.join(files)} again"
