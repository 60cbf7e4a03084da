"""A pipeline's text encoder: captions to embeddings, with a cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from nextgpt_pl.decoders.files import PipelineFiles
from nextgpt_pl.features import FeatureCache, Memory, Store
from nextgpt_pl.features.keys import digest, folder_sha256
from nextgpt_pl.features.store import in_fixed_batches
from nextgpt_pl.utils.precision import compute_dtype, own_precision
from nextgpt_pl.utils.quiet import quiet_loading
from nextgpt_pl.utils.transfer import upload

MEMORY_BYTES = 256 * 2**20
_BATCH = 4


class CaptionEncoder:
    """Text encoder and tokenizer of Stable Diffusion and Zeroscope; loaded for the first caption that is not cached.

    Args:
        files: files of the pipeline.
        owner: class name of the decoder, which is part of the key of cached embeddings.

    Attributes:
        batch_size: captions per forward pass.

    """

    #: raise it when embeddings change; see :mod:`nextgpt_pl.features.keys`
    version = 1
    #: parts of the pipeline that embed captions
    parts: tuple[str, ...] = ("text_encoder", "tokenizer")

    def __init__(self, files: PipelineFiles, owner: str) -> None:
        self.files, self.owner = files, owner
        self.batch_size = _BATCH
        self.device = torch.device("cpu")
        self._text: tuple[Any, Any] | None = None
        self._memory = Memory(MEMORY_BYTES)

    @property
    def loaded(self) -> bool:
        """Whether the weights have been read."""
        return self._text is not None

    @property
    def shape(self) -> tuple[int, ...]:
        """``(L, D)`` of one embedding: the tokenizer's length and the text encoder's width; reads no weights."""
        length = int(self.files.json("tokenizer_config.json", "tokenizer")["model_max_length"])
        config = self.files.json("config.json", "text_encoder")
        return min(length, int(config["max_position_embeddings"])), int(config["hidden_size"])

    @torch.no_grad()
    @own_precision()
    def embed(self, captions: Sequence[str], store: Store | None = None) -> Tensor:
        """``(N, *shape)`` float32 on the device, outside of autocast; only captions missing from the store are encoded.

        Args:
            captions: N captions.
            store: of :meth:`store`; ``None``: the encoder's own memory.

        """
        return self._fetch("caption", captions, store, self.encode)

    @torch.no_grad()
    @own_precision()
    def embed_negative(self, prompt: str, store: Store | None = None) -> Tensor:
        """The embedding ``shape`` of a negative prompt; see :meth:`embed`."""
        return self._fetch(self.negative_kind, [prompt], store, self.encode_negative)[0]

    def _fetch(
        self, kind: str, captions: Sequence[str], store: Store | None, encode: Callable[[list[str]], Tensor]
    ) -> Tensor:
        store = self._memory if store is None else store
        keys = [digest(kind, caption) for caption in captions]

        def make(missing: list[int]) -> Tensor:
            return in_fixed_batches([captions[i] for i in missing], self.batch_size, lambda few: encode(few).float())

        embeddings = store.fetch(keys, make)
        return upload(torch.stack(embeddings), self.device)

    @property
    def negative_kind(self) -> str:
        """Kind of a negative prompt's key in the cache; that of captions, if its embedding is that of a caption."""
        return "caption"

    def store(self, cache: FeatureCache) -> Store:
        """The store of these embeddings in a cache."""
        return cache.store("captions", self.files.source("text_encoder"), self.producer())

    def producer(self) -> dict[str, Any]:
        """Description of what caption embeddings depend on besides the captions, as plain data."""
        present = self.files.index()
        folders = {part: folder_sha256(self.files.folder(part)) for part in self.parts if part in present}
        own = {"class": self.owner, "version": self.version, "shape": list(self.shape)}
        return {**own, "compute_dtype": compute_dtype(torch.float32), **folders}

    def encode(self, captions: list[str]) -> Tensor:
        """Compute embeddings ``(N, *shape)``, without cache."""
        encoder, tokenizer = self.load()
        tokens = tokenizer(
            captions,
            padding="max_length",
            max_length=int(tokenizer.model_max_length),
            truncation=True,
            return_tensors="pt",
        )
        return self.encode_tokens(encoder, tokens)

    def encode_negative(self, captions: list[str]) -> Tensor:
        """Compute embeddings ``(N, *shape)`` of negative prompts, without cache."""
        return self.encode(captions)

    def encode_tokens(self, encoder: Any, tokens: Any) -> Tensor:
        """Encode captions, tokenised on the CPU, on the device: ``(N, *shape)``."""
        # no attention mask, as in training of Stable Diffusion's and Zeroscope's UNets
        return encoder(upload(tokens.input_ids, self.device)).last_hidden_state

    def load(self) -> tuple[Any, Any]:
        """Text encoder, on the device, and tokenizer; loaded once."""
        if self._text is None:
            with quiet_loading():
                encoder, tokenizer = self._read()
            self._text = encoder.to(self.device), tokenizer
        return self._text

    def _read(self) -> tuple[Any, Any]:
        return self._read_encoder("text_encoder"), self._read_tokenizer("tokenizer")

    def _read_encoder(self, part: str) -> Any:
        encoder = self.files.part_class(part).from_pretrained(self.files.folder(part), dtype=torch.float32)
        return encoder.eval().requires_grad_(False)

    def _read_tokenizer(self, part: str) -> Any:
        import transformers

        return transformers.AutoTokenizer.from_pretrained(self.files.folder(part), trust_remote_code=False)

    def to(self, device: torch.device) -> None:
        """Move the text encoder, now or when it is loaded."""
        self.device = device
        if self._text is not None:
            self._text[0].to(device)
