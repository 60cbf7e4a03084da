"""What is special about the text conditioning of a family of pipelines: one table.

A pipeline without an entry, or without ``blocks``, has states ``prompt_embeds``, and perhaps a mask and a pooled
vector, which are found in the signature of its call and in the configurations of its text encoders.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from nextgpt_pl.decoders import connectors, feeds
from nextgpt_pl.decoders.layout import Block
from nextgpt_pl.decoders.sizes import Sizes
from nextgpt_pl.errors import UserError

POOLED = "pooled_prompt_embeds"
_MULTIPLE = 16  # of CogView4's tokens


@dataclass(frozen=True)
class Family:
    """How pipelines of a family take their text.

    Attributes:
        blocks: blocks of the packed embedding; ``None``: found in signatures and configurations.
        length: argument of ``encode_prompt`` for the maximum number of tokens.
        shortened: tokenizers whose maximum length ``max_length`` replaces, if ``encode_prompt`` has no such argument.
        parts: parts of the pipeline that embed captions, besides text encoders and tokenizers.
        configurations: networks whose configuration ``encode_prompt`` reads.
        calls: arguments of several calls of ``encode_prompt`` whose outputs together are the embedding.
        feed: outputs of ``encode_prompt``, from the call's conditions and the arguments of ``encode_prompt``. Pipelines
            whose call takes no embeddings, or needs the text encoders for them, get it in place of their method.
        fed: arguments of the call together with ``feed``.
        encoded: what the embedding is, from the pipeline and the outputs of ``encode_prompt``, if it is not these.
        given: what takes the places of parts that embed captions, when media are generated.
        batched: whether the embedding of a caption does not depend on the other captions of a batch, but for rounding.
        interval: whether ``guidance_interval`` can work. It cannot if the pipeline calls its denoiser twice per step.

    """

    blocks: Callable[[Sizes], tuple[Block, ...]] | None = None
    length: str = "max_sequence_length"
    shortened: tuple[str, ...] = ("tokenizer", "tokenizer_2")
    parts: tuple[str, ...] = ()
    configurations: tuple[str, ...] = ()
    calls: tuple[Mapping[str, Any], ...] = ({},)
    feed: Callable[..., tuple[Tensor, ...]] | None = None
    fed: Mapping[str, Any] | None = None
    encoded: Callable[[Any, Sequence[Any]], list[Any]] | None = None
    given: Mapping[str, Callable[[Sizes], Callable[..., Any]]] = field(default_factory=dict)
    batched: bool = True
    interval: bool = True


def _stable_diffusion_3(sizes: Sizes) -> tuple[Block, ...]:
    # without the optional T5, its states are zero
    pools = sum(int(sizes.config(part)["projection_dim"]) for part in ("text_encoder", "text_encoder_2"))
    length = sizes.tokens("tokenizer") + sizes.length
    width = int(sizes.config("transformer")["joint_attention_dim"])
    return Block("prompt_embeds", length, width), Block(POOLED, 1, pools, pooled=True)


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
        Block(POOLED, 1, pools, pooled=True),
    )


def _hunyuan_video(sizes: Sizes) -> tuple[Block, ...]:
    states = Block("prompt_embeds", sizes.length, sizes.width("text_encoder"), "prompt_attention_mask")
    return states, Block(POOLED, 1, sizes.width("text_encoder_2"), pooled=True)


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


FAMILIES: dict[str, Family] = {
    "StableDiffusion3Pipeline": Family(_stable_diffusion_3, configurations=("transformer",)),
    "FluxPipeline": Family(interval=False),
    "Flux2Pipeline": Family(_layers, interval=False),
    "Flux2KleinPipeline": Family(_layers, interval=False),
    "HiDreamImagePipeline": Family(_hidream, interval=False),
    "QwenImagePipeline": Family(
        lambda s: (Block("prompt_embeds", s.length, s.width("text_encoder"), "prompt_embeds_mask", cut="longest"),),
        interval=False,
    ),
    "CogView4Pipeline": Family(
        lambda s: (
            Block("prompt_embeds", _MULTIPLE * math.ceil(s.length / _MULTIPLE), s.width("text_encoder"), cut="equal"),
        ),
        interval=False,
    ),
    "Lumina2Pipeline": Family(interval=False),
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
        ),
        interval=False,
    ),
    "WanPipeline": Family(interval=False),
    "LTX2Pipeline": Family(
        connectors.blocks,
        parts=("connectors",),
        encoded=connectors.encoded,
        given={"connectors": connectors.GivenStates},
    ),
    "HunyuanVideoPipeline": Family(_hunyuan_video, interval=False),
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
        feed=feeds.audioldm_2,
        fed={"transcription": ""},
        batched=False,
    ),
    "AceStepPipeline": Family(_ace_step, length="max_text_length", feed=feeds.ace_step, fed={}, interval=False),
}


def family_of(pipeline: str) -> Family:
    """The entry of a pipeline, or that of all others."""
    return FAMILIES.get(pipeline, Family())
