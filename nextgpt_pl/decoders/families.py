"""What is special about the text conditioning of a family of pipelines: one table.

A pipeline without an entry has states ``prompt_embeds``, and perhaps a mask and a pooled vector, which are found in the
signature of its call and in the configurations of its text encoders.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nextgpt_pl.decoders.files import PipelineFiles
from nextgpt_pl.decoders.layout import Block, TextLayout
from nextgpt_pl.errors import UserError

_MASKS = ("prompt_attention_mask", "attention_mask", "prompt_embeds_mask")
_POOLED = "pooled_prompt_embeds"
_MULTIPLE = 16  # of CogView4's tokens


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


@dataclass(frozen=True)
class Family:
    """How pipelines of a family take their text.

    Attributes:
        blocks: blocks of the packed embedding; ``None``: found in signatures and configurations.
        length: argument of ``encode_prompt`` for the maximum number of tokens.
        shortened: tokenizers whose maximum length ``max_length`` replaces, if ``encode_prompt`` has no such argument.
        parts: parts of the pipeline that embed captions, besides text encoders and tokenizers.
        calls: arguments of several calls of ``encode_prompt`` whose outputs together are the embedding.
        feed: outputs of ``encode_prompt``, from the call's conditions and the arguments of ``encode_prompt``. Pipelines
            whose call takes no embeddings, or needs the text encoders for them, get it in place of their method.
        fed: arguments of the call together with ``feed``.
        interval: whether ``guidance_interval`` can work.

    """

    blocks: Callable[[Sizes], tuple[Block, ...]] | None = None
    length: str = "max_sequence_length"
    shortened: tuple[str, ...] = ("tokenizer", "tokenizer_2")
    parts: tuple[str, ...] = ()
    calls: tuple[Mapping[str, Any], ...] = ({},)
    feed: Callable[..., tuple[Tensor, ...]] | None = None
    fed: Mapping[str, Any] | None = None
    interval: bool = True


def _stable_diffusion_3(sizes: Sizes) -> tuple[Block, ...]:
    # without the optional T5, its states are zero
    pools = sum(int(sizes.config(part)["projection_dim"]) for part in ("text_encoder", "text_encoder_2"))
    length = sizes.tokens("tokenizer") + sizes.length
    width = int(sizes.config("transformer")["joint_attention_dim"])
    return Block("prompt_embeds", length, width), Block(_POOLED, 1, pools, pooled=True)


def _layers(sizes: Sizes) -> tuple[Block, ...]:
    width = sizes.width("text_encoder") * len(sizes.option("text_encoder_out_layers"))
    return (Block("prompt_embeds", sizes.length, width),)


def _hidream(sizes: Sizes) -> tuple[Block, ...]:
    t5 = min(sizes.length, sizes.tokens("tokenizer_3"))
    llama = min(sizes.length, sizes.tokens("tokenizer_4"))
    pools = sum(int(sizes.config(part)["projection_dim"]) for part in ("text_encoder", "text_encoder_2"))
    layers = int(sizes.config("text_encoder_4")["num_hidden_layers"])
    return (
        Block("prompt_embeds_t5", t5, sizes.width("text_encoder_3")),
        Block("prompt_embeds_llama3", llama, sizes.width("text_encoder_4"), layers=layers),
        Block(_POOLED, 1, pools, pooled=True),
    )


def _hunyuan_video(sizes: Sizes) -> tuple[Block, ...]:
    states = Block("prompt_embeds", sizes.length, sizes.width("text_encoder"), "prompt_attention_mask")
    return states, Block(_POOLED, 1, sizes.width("text_encoder_2"), pooled=True)


def _hunyuan_dit(sizes: Sizes) -> tuple[Block, ...]:
    if sizes.max_length is not None:
        raise UserError(f"decoder max_length={sizes.max_length}: HunyuanDiT takes 77 and 256 tokens; remove the key")
    return (
        Block("prompt_embeds", 77, sizes.width("text_encoder"), "prompt_attention_mask"),
        Block("prompt_embeds_2", 256, sizes.width("text_encoder_2"), "prompt_attention_mask_2", padding=True),
    )


def _audioldm_2(sizes: Sizes) -> tuple[Block, ...]:
    length = sizes.max_length or sizes.tokens("tokenizer_2")
    language_model = sizes.config("language_model")
    new = sizes.option("max_new_tokens") or language_model["max_new_tokens"]
    width = int(language_model.get("n_embd") or language_model["hidden_size"])
    return (
        Block("prompt_embeds", length, sizes.width("text_encoder_2"), "attention_mask", cut="longest"),
        Block("generated_prompt_embeds", int(new), width),
    )


def _ace_step(sizes: Sizes) -> tuple[Block, ...]:
    width = sizes.width("text_encoder")
    text = sizes.max_length or int(sizes.option("max_text_length"))
    lyrics = int(sizes.option("max_lyric_length"))
    return (
        Block("text_hidden_states", text, width, "text_attention_mask", cut="longest"),
        Block("lyric_hidden_states", lyrics, width, "lyric_attention_mask", cut="longest"),
    )


def _feed_audioldm_2(
    values: Mapping[str, Tensor], _prompt: Any, _device: Any, _count: Any, guided: bool, *_others: Any, **_more: Any
) -> tuple[Tensor, ...]:
    """States of T5, their mask and generated states; of guidance, both halves, of equal length."""
    names = ("prompt_embeds", "attention_mask", "generated_prompt_embeds")
    positive = [values[name] for name in names]
    if not guided:
        return tuple(positive)
    pairs = zip([values[f"negative_{name}"] for name in names], positive, strict=True)
    return tuple(
        torch.cat([_filled(own, max(own.shape[1], other.shape[1])) for own, other in ((n, p), (p, n))])
        for n, p in pairs
    )


def _filled(value: Tensor, length: int) -> Tensor:
    """``(N, L, ...)`` filled with zeros to ``(N, length, ...)``."""
    return F.pad(value, (*[0, 0] * (value.ndim - 2), 0, length - value.shape[1]))


def _feed_ace_step(values: Mapping[str, Tensor], *_: Any, **__: Any) -> tuple[Tensor, ...]:
    """States and mask of the caption, and of the lyrics."""
    kinds = ("text_hidden_states", "text_attention_mask", "lyric_hidden_states", "lyric_attention_mask")
    return tuple(values[name].bool() if "mask" in name else values[name] for name in kinds)


FAMILIES: dict[str, Family] = {
    "StableDiffusion3Pipeline": Family(_stable_diffusion_3),
    "Flux2Pipeline": Family(_layers),
    "Flux2KleinPipeline": Family(_layers),
    "HiDreamImagePipeline": Family(_hidream, interval=False),
    "QwenImagePipeline": Family(
        lambda s: (Block("prompt_embeds", s.length, s.width("text_encoder"), "prompt_embeds_mask", cut="longest"),)
    ),
    "CogView4Pipeline": Family(
        lambda s: (
            Block("prompt_embeds", _MULTIPLE * math.ceil(s.length / _MULTIPLE), s.width("text_encoder"), cut="equal"),
        )
    ),
    "ZImagePipeline": Family(
        lambda s: (Block("prompt_embeds", s.length, s.width("text_encoder"), cut="list"),), interval=False
    ),
    "ChromaPipeline": Family(
        lambda s: (
            Block(
                "prompt_embeds",
                s.length,
                s.width("text_encoder"),
                "prompt_attention_mask",
                real_mask=True,
                padding=True,
            ),
        )
    ),
    "HunyuanVideoPipeline": Family(_hunyuan_video),
    "HunyuanDiTPipeline": Family(
        _hunyuan_dit, shortened=(), calls=({"text_encoder_index": 0}, {"text_encoder_index": 1})
    ),
    "MochiPipeline": Family(
        lambda s: (
            Block("prompt_embeds", s.length, s.width("text_encoder"), "prompt_attention_mask", may_be_empty=True),
        )
    ),
    "AudioLDM2Pipeline": Family(
        _audioldm_2,
        parts=("projection_model", "language_model"),
        shortened=("tokenizer_2",),
        feed=_feed_audioldm_2,
        fed={"transcription": ""},
    ),
    "AceStepPipeline": Family(_ace_step, length="max_text_length", feed=_feed_ace_step, fed={}, interval=False),
}


def family_of(pipeline: str) -> Family:
    """The entry of a pipeline, or that of all others."""
    return FAMILIES.get(pipeline, Family())


def read_layout(sizes: Sizes) -> TextLayout:
    """The layout of a pipeline; reads no weights.

    Raises:
        UserError: the pipeline does not take embeddings, or others than this module knows.

    """
    name = sizes.files.pipeline_class().__name__
    check_takes_embeddings(name, sizes.call)
    blocks = family_of(name).blocks
    return TextLayout(_common(sizes) if blocks is None else blocks(sizes))


def check_takes_embeddings(pipeline: str, call: Mapping[str, Any]) -> None:
    """Check that a pipeline can be given caption embeddings, by the arguments of its call.

    Raises:
        UserError: it cannot.

    """
    if pipeline in FAMILIES:
        return
    if "prompt_embeds" not in call:
        raise UserError(f"decoder pipeline={pipeline!r} takes no prompt_embeds")
    known = {"prompt_embeds", _POOLED, *_MASKS}
    taken = {name for name in call if "embeds" in name or name.endswith("mask") or "cu_seqlens" in name}
    unknown = {n for n in taken if "negative" not in n and "ip_adapter" not in n and "image" not in n} - known
    if unknown:
        raise UserError(
            f"decoder pipeline={pipeline!r}: its conditioning {', '.join(sorted(unknown))} is not supported; "
            f"supported are pipelines with prompt_embeds, one mask and one pooled vector, and {', '.join(FAMILIES)}"
        )


def _common(sizes: Sizes) -> tuple[Block, ...]:
    """States of T5, or of all other encoders side by side; their mask; the pooled vector of the last CLIP."""
    encoders = [part for part in sizes.files.index() if part.startswith("text_encoder")]
    t5 = [part for part in encoders if "d_model" in sizes.config(part)]
    others = [part for part in encoders if part not in t5]
    width = sizes.width(t5[0]) if t5 else sum(sizes.width(part) for part in others)
    mask = next((name for name in _MASKS if name in sizes.call), None)
    states = Block("prompt_embeds", sizes.length, width, mask)
    if _POOLED not in sizes.call or not others:
        return (states,)
    # with T5 it is CLIP's pooled state; with two CLIPs it is the projection of the last one
    pooled = int(sizes.config(others[-1])["hidden_size" if t5 else "projection_dim"])
    return states, Block(_POOLED, 1, pooled, pooled=True)
