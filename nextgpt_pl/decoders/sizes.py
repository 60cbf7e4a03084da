"""Sizes of a pipeline's text encoders, from its configuration files."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nextgpt_pl.decoders.files import PipelineFiles


@dataclass(frozen=True)
class Sizes:
    """Sizes of a pipeline's text encoders, from its configuration files.

    Attributes:
        files: files of the pipeline.
        sampling: arguments of the call that are set in the YAML.
        max_length: maximum number of tokens of a caption; ``None``: the pipeline's default.

    """

    files: PipelineFiles
    sampling: Mapping[str, Any]
    max_length: int | None

    @property
    def call(self) -> Mapping[str, inspect.Parameter]:
        """Parameters of the pipeline's call."""
        return inspect.signature(self.files.pipeline_class().__call__).parameters

    @property
    def length(self) -> int:
        """Tokens of a caption."""
        if self.max_length is not None:
            return self.max_length
        default = self.option("max_sequence_length")
        return default if isinstance(default, int) else self.tokens("tokenizer")

    def option(self, name: str) -> Any:
        """An argument of the call: from the YAML, or the default; ``None`` if there is no such argument."""
        return self.sampling.get(name, self.call[name].default) if name in self.call else None

    def config(self, part: str) -> dict[str, Any]:
        """The configuration of a part; of a multimodal model, that of its LLM."""
        config = self.files.json("config.json", part)
        return {**config, **config.get("text_config", {})}

    def width(self, part: str) -> int:
        """Width of a text encoder's states."""
        config = self.config(part)
        return int(config["d_model"] if "d_model" in config else config["hidden_size"])

    def tokens(self, part: str) -> int:
        """Maximum number of tokens of a tokenizer."""
        return int(self.files.json("tokenizer_config.json", part)["model_max_length"])
