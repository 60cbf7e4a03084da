"""Decoders that are pipelines of the diffusers library."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nextgpt_pl.decoders.base import Decoder, item_seeds
from nextgpt_pl.errors import UserError
from nextgpt_pl.features import Memory, Store
from nextgpt_pl.features.keys import digest, folder_sha256
from nextgpt_pl.features.store import in_chunks
from nextgpt_pl.paths import resolve

_MEMORY_BYTES = 256 * 2**20
_CHUNK = 4  # captions that are embedded at a time


class DiffusionDecoder(Decoder):
    """An image or video pipeline conditioned on ``(L, D)`` text states (Stable Diffusion, Zeroscope).

    The text encoder and the diffusion networks are read separately and late: training needs only the first, a cached
    run neither.

    Args:
        pipeline: class name in diffusers, such as ``StableDiffusionPipeline``; named, never guessed.
        path: hub id, folder, or ``pocket:image``, ``pocket:video``, ``pocket:audio``.
        sampling: arguments of the pipeline's call.
        dtype: of the weights; embeddings are float32 whatever this says.
        negative_prompt: what guidance steers away from.
        parts: parts that lie in another pipeline's folder, as ``{vae: pocket:image}``; what is shared is stored once.
        fps: frames per second at which its videos are to be shown; images have none.

    """

    #: parts of the pipeline that turn captions into embeddings, and optional ones that are never needed
    text_parts: tuple[str, ...] = ("text_encoder", "tokenizer")
    unused_parts: tuple[str, ...] = ("safety_checker", "feature_extractor", "image_encoder")

    def __init__(
        self,
        pipeline: str,
        path: str,
        sampling: dict[str, Any] | None = None,
        dtype: str = "float32",
        negative_prompt: str = "",
        parts: dict[str, str] | None = None,
        fps: float | None = None,
    ) -> None:
        self.fps = fps
        self.parts = dict(parts or {})
        self.pipeline_name, self.path, self.dtype_name = pipeline, path, dtype
        self.sampling, self.negative_prompt = dict(sampling or {}), negative_prompt
        self.device = torch.device("cpu")
        self._pipeline: Any = None
        self._text: tuple[Any, Any] | None = None
        self._store: Store | None = None

    def _folder(self, part: str | None = None) -> Path:
        """The folder of the pipeline, or of one part; huggingface_hub looks a hub id up locally, or downloads it."""
        name = self.parts.get(part, self.path) if part else self.path
        path = Path(resolve(name))
        if not path.is_dir():
            from huggingface_hub import snapshot_download

            try:
                path = Path(snapshot_download(name, allow_patterns=["*.json", "tokenizer/*", "text_encoder/*"]))
            except Exception as error:
                raise UserError(f"decoder path={name!r}: no such folder, and not to be had as a hub id") from error
        return path / part if part else path

    def _config(self, part: str, file: str = "config.json") -> dict[str, Any]:
        location = self._folder(part) / file
        if not location.is_file():
            name = self.parts.get(part, self.path)
            raise UserError(f"decoder path={name!r} has no {part}/{file}: is it a {self.pipeline_name} folder?")
        return dict(json.loads(location.read_text()))

    def _index(self) -> dict[str, Any]:
        """The pipeline's parts and their classes: name to library and class."""
        return dict(json.loads((self._folder() / "model_index.json").read_text()))

    @property
    def rate(self) -> float | None:
        """As given; Zeroscope's own is 8."""
        return self.fps

    @property
    def embedding_shape(self) -> tuple[int, ...]:
        """``(L, D)``: the tokenizer's length and the text encoder's width."""
        length = min(
            int(self._config("tokenizer", "tokenizer_config.json")["model_max_length"]),
            int(self._config("text_encoder")["max_position_embeddings"]),
        )
        return length, int(self._config("text_encoder")["hidden_size"])

    def _text_encoder(self) -> tuple[Any, Any]:
        if self._text is None:
            import transformers

            encoder_class = getattr(transformers, self._index()["text_encoder"][1])
            encoder = encoder_class.from_pretrained(self._folder("text_encoder"), dtype=torch.float32)
            tokenizer = transformers.AutoTokenizer.from_pretrained(self._folder("tokenizer"))
            self._text = encoder.to(self.device).eval().requires_grad_(False), tokenizer
        return self._text

    @torch.no_grad()
    def embed_captions(self, captions: Sequence[str]) -> Tensor:
        """``(N, *embedding_shape)`` float32. What was embedded lately is remembered: the text encoder is frozen."""
        if self._store is None:
            self._store = self._caption_store()
        keys = [digest("caption", caption) for caption in captions]
        made = self._store.fetch(keys, lambda at: in_chunks([captions[i] for i in at], _CHUNK, self._embed_now))
        return torch.stack(made).to(self.device)

    def _caption_store(self) -> Store:
        if self.cache is None:
            return Memory(_MEMORY_BYTES)
        source = self.parts.get("text_encoder", self.path)
        return self.cache.store("captions", source, self.producer())

    def producer(self) -> dict[str, Any]:
        """All that caption embeddings depend on but for the captions, as plain data."""
        folders = {part: folder_sha256(self._folder(part)) for part in self.text_parts}
        return {"class": type(self).__name__, "shape": list(self.embedding_shape), **folders}

    def _embed_now(self, captions: list[str]) -> Tensor:
        encoder, tokenizer = self._text_encoder()
        tokens = tokenizer(
            captions,
            padding="max_length",
            max_length=self._text_length(tokenizer),
            truncation=True,
            return_tensors="pt",
        ).to(self.device)
        return self._embed(encoder, tokens).float().cpu()

    def _text_length(self, tokenizer: Any) -> int:
        return int(tokenizer.model_max_length)

    def _embed(self, encoder: Any, tokens: Any) -> Tensor:
        # Stable Diffusion and Zeroscope pass no attention mask: padding is part of what their UNets were trained on
        return encoder(tokens.input_ids).last_hidden_state

    def _loaded(self) -> Any:
        """The diffusion networks, without text encoder and tokenizer: embeddings are given by us."""
        if self._pipeline is None:
            try:
                pipeline_class = getattr(importlib.import_module("diffusers"), self.pipeline_name)
            except AttributeError as error:
                raise UserError(f"decoder pipeline={self.pipeline_name!r}: diffusers has no such class") from error
            from diffusers.utils import logging as diffusers_logging

            diffusers_logging.disable_progress_bar()
            dtype = getattr(torch, self.dtype_name)
            given = self._given_parts(dtype)
            pipeline = pipeline_class.from_pretrained(resolve(self.path), torch_dtype=dtype, **given)
            pipeline.set_progress_bar_config(disable=True)
            self._pipeline = pipeline.to(self.device)
        return self._pipeline

    def _given_parts(self, dtype: torch.dtype) -> dict[str, Any]:
        """What the pipeline is not to read from its own folder: parts that are never needed, and shared ones."""
        index = self._index()
        unknown = set(self.parts) - set(index)
        if unknown:
            raise UserError(f"decoder parts: {self.pipeline_name} has no part {', '.join(sorted(unknown))}")
        given: dict[str, Any] = dict.fromkeys(p for p in (*self.text_parts, *self.unused_parts) if p in index)
        for part in self.parts.keys() - given.keys():
            library, name = index[part]
            part_class = getattr(importlib.import_module(library), name)
            given[part] = part_class.from_pretrained(self._folder(part), torch_dtype=dtype)
        return given

    @torch.no_grad()
    def generate(self, embeddings: Tensor, *, seed: int | Sequence[int], **sampling: Any) -> list[np.ndarray]:
        """See :meth:`Decoder.generate`.

        Raises:
            RuntimeError: the pipeline gave something constant or not finite.

        """
        if tuple(embeddings.shape[1:]) != self.embedding_shape:
            raise UserError(f"embeddings {tuple(embeddings.shape[1:])}, the decoder wants {self.embedding_shape}")
        pipeline = self._loaded()
        negative = self.embed_captions([self.negative_prompt]).expand(len(embeddings), *self.embedding_shape)
        dtype = getattr(torch, self.dtype_name)
        output = pipeline(
            prompt_embeds=embeddings.to(self.device, dtype),
            negative_prompt_embeds=negative.to(self.device, dtype),
            generator=[torch.Generator().manual_seed(s) for s in item_seeds(seed, len(embeddings))],
            output_type="np",
            **{**self.sampling, **sampling},
        )
        return [_checked(array, self.path) for array in self._arrays(output)]

    def _arrays(self, output: Any) -> list[np.ndarray]:
        pictures = output.images if hasattr(output, "images") else output.frames
        return [np.rint(np.nan_to_num(np.asarray(p), nan=-1.0) * 255).clip(-1, 255) for p in pictures]

    def to(self, device: torch.device | str) -> DiffusionDecoder:
        """Move what is loaded; the rest goes there when it is read."""
        self.device = torch.device(device)
        if self._pipeline is not None:
            self._pipeline.to(self.device)
        if self._text is not None:
            self._text[0].to(self.device)
        return self


class AudioLDMDecoder(DiffusionDecoder):
    """AudioLDM: conditioned on one pooled, L2-normalised CLAP text embedding ``(D,)``, fed as class labels."""

    @property
    def rate(self) -> float:
        """The vocoder's sample rate."""
        return float(self._config("vocoder")["sampling_rate"])

    @property
    def embedding_shape(self) -> tuple[int, ...]:
        """``(D,)``."""
        return (int(self._config("text_encoder")["projection_dim"]),)

    def _embed(self, encoder: Any, tokens: Any) -> Tensor:
        return F.normalize(encoder(**tokens).text_embeds, dim=-1)

    def _loaded(self) -> Any:
        pipeline = super()._loaded()
        # the pipeline's own method reads the dtype of a text encoder that is not there, and would not normalise
        pipeline._encode_prompt = self._given_embeddings
        return pipeline

    def _given_embeddings(
        self,
        _prompt: Any,
        _device: Any,
        num_waveforms_per_prompt: int,
        do_classifier_free_guidance: bool,
        _negative_prompt: Any = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
    ) -> Tensor:
        assert prompt_embeds is not None
        assert negative_prompt_embeds is not None
        positive = F.normalize(prompt_embeds, dim=-1).repeat_interleave(num_waveforms_per_prompt, 0)
        if not do_classifier_free_guidance:
            return positive
        return torch.cat(
            [F.normalize(negative_prompt_embeds, dim=-1).repeat_interleave(num_waveforms_per_prompt, 0), positive]
        )

    def _arrays(self, output: Any) -> list[np.ndarray]:
        return [np.asarray(a, np.float32) for a in output.audios]


def _checked(array: np.ndarray, path: str) -> np.ndarray:
    """Pictures as uint8, sounds as float32; broken output is an error, not a black image."""
    picture = array.ndim > 1
    if not np.isfinite(array).all() or (picture and array.min() < 0) or array.max() == array.min():
        raise RuntimeError(f"decoder {path!r} gave constant output or numbers that are not finite")
    return array.astype(np.uint8) if picture else array.clip(-1, 1)
