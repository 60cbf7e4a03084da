"""Caption embeddings of pipelines with an ``encode_prompt``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import cached_property
from types import SimpleNamespace
from typing import Any

from torch import Tensor

from nextgpt_pl.decoders.captions import CaptionEncoder
from nextgpt_pl.decoders.conditioning import read_layout
from nextgpt_pl.decoders.families import family_of
from nextgpt_pl.decoders.files import PipelineFiles
from nextgpt_pl.decoders.layout import TextLayout
from nextgpt_pl.decoders.outputs import from_outputs
from nextgpt_pl.decoders.sizes import Sizes

_PARTS = tuple(f"{part}{number}" for number in ("", "_2", "_3", "_4") for part in ("text_encoder", "tokenizer"))
_COUNTS = ("num_images_per_prompt", "num_videos_per_prompt", "num_waveforms_per_prompt")


class PromptCaptionEncoder(CaptionEncoder):
    """Embeds captions by the pipeline's ``encode_prompt``; loads its text parts only.

    Args:
        files, owner: see :class:`CaptionEncoder`.
        max_length: maximum number of tokens of a caption; ``None``: the pipeline's default.
        sampling: arguments of the pipeline's call; those that it passes to ``encode_prompt`` are used.
        batch_size: captions per pass. In a batch, matrix products are summed in another order than for one caption.

    """

    def __init__(
        self,
        files: PipelineFiles,
        owner: str,
        max_length: int | None,
        sampling: Mapping[str, Any] | None = None,
        batch_size: int = 1,
    ) -> None:
        super().__init__(files, owner)
        self.batch_size = batch_size
        self.sizes = Sizes(files, dict(sampling or {}), max_length)
        self.family = family_of(files.pipeline)
        self.parts = (*_PARTS, *self.family.parts)

    @cached_property
    def layout(self) -> TextLayout:
        """The layout of the embeddings; reads no weights."""
        return read_layout(self.sizes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the packed embedding."""
        return self.layout.shape

    @property
    def negative_kind(self) -> str:
        """Negative prompts have own embeddings if ``encode_prompt`` treats them in an own way."""
        return "negative" if "negative_prompt" in self._known else "caption"

    @cached_property
    def _known(self) -> Mapping[str, inspect.Parameter]:
        """Parameters of ``encode_prompt``."""
        method = getattr(self.files.pipeline_class(), "encode_prompt", None)
        found = inspect.signature(method).parameters if method else {}
        return {name: parameter for name, parameter in found.items() if name != "self"}

    @cached_property
    def _options(self) -> dict[str, Any]:
        """Arguments that the pipeline's call passes on to ``encode_prompt``."""
        texts = {name: self.sizes.option(name) for name in self._known if name in self.sizes.call and _is_option(name)}
        texts |= {name: 1 for name in _COUNTS if name in self._known}
        if self.sizes.max_length is not None and self.family.length in self._known:
            texts[self.family.length] = self.sizes.max_length
        return texts

    def producer(self) -> dict[str, Any]:
        """See :meth:`CaptionEncoder.producer`; with the options of ``encode_prompt`` that are not its defaults."""
        changed = {n: v for n, v in self._options.items() if v != self._known[n].default and n not in _COUNTS}
        changed.pop(self.family.length, None)  # part of the shape
        batch = {"batch": self.batch_size} if self.batch_size > 1 else {}
        return {**super().producer(), **({"options": changed} if changed else {}), **batch}

    def _read(self) -> tuple[Any, Any]:
        """The pipeline with its text parts only, and no tokenizer."""
        pipeline_class, index = self.files.pipeline_class(), self.files.index()
        wanted = inspect.signature(pipeline_class.__init__).parameters
        settings = {k: v for k, v in self.files.json("model_index.json").items() if not isinstance(v, list)}
        parts: dict[str, Any] = {n: p.default for n, p in wanted.items() if n != "self"}
        parts = {n: None if v is inspect.Parameter.empty else v for n, v in parts.items()}
        parts |= {name: value for name, value in settings.items() if name in parts}
        for part in [p for p in index if p in self.parts]:
            read = self._read_tokenizer if part.startswith("tokenizer") else self._read_encoder
            parts[part] = read(part)
        pipeline = self._text_only(parts)
        for part in self.family.configurations:
            setattr(pipeline, part, SimpleNamespace(config=SimpleNamespace(**self.sizes.config(part))))
        return pipeline, None

    def _read_tokenizer(self, part: str) -> Any:
        tokenizer = super()._read_tokenizer(part)
        shortened = part in self.family.shortened and self.family.length not in self._known
        if shortened and self.sizes.max_length is not None:
            tokenizer.model_max_length = self.sizes.max_length
        return tokenizer

    def _text_only(self, parts: dict[str, Any]) -> Any:
        return self.files.pipeline_class()(**parts)

    def encode(self, captions: list[str]) -> Tensor:
        """See :meth:`CaptionEncoder.encode`."""
        return self.layout.pack(self._values(captions, negative=False))

    def encode_negative(self, captions: list[str]) -> Tensor:
        """See :meth:`CaptionEncoder.encode_negative`."""
        return self.layout.pack(self._values(captions, negative=True))

    def _values(self, captions: list[str], negative: bool) -> dict[str, Any]:
        """Arguments of the call for captions or negative prompts."""
        pipeline, _ = self.load()
        options = {
            "prompt": list(captions),
            "device": self.device,
            "do_classifier_free_guidance": negative,
            **self._options,
        }
        if negative and any(captions):
            options["negative_prompt"] = list(captions)  # some pipelines change the list
        elif negative and "negative_prompt" in self.sizes.call:
            options["negative_prompt"] = self.sizes.call["negative_prompt"].default
        if "lyrics" in options:
            options["lyrics"] = [options["lyrics"]] * len(captions)
        outputs: list[Any] = []
        for own in self.family.calls:
            required = {n: None for n, p in self._known.items() if p.default is p.empty and n.startswith("prompt")}
            given = {name: value for name, value in {**required, **options, **own}.items() if name in self._known}
            found = pipeline.encode_prompt(**given)
            outputs += found if isinstance(found, Sequence) else [found]
        if self.family.encoded is not None:
            outputs = self.family.encoded(pipeline, outputs)
        return from_outputs(self.layout, outputs, len(captions), negative)


def _is_option(name: str) -> bool:
    """Whether an argument of ``encode_prompt`` is neither a text nor an embedding."""
    return not name.startswith(("prompt", "negative")) and "embeds" not in name and "mask" not in name
