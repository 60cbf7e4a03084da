"""The layout of a pipeline's text conditioning, from its family, or from its signature and configurations."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from nextgpt_pl.decoders.families import FAMILIES, POOLED, family_of
from nextgpt_pl.decoders.layout import Block, TextLayout
from nextgpt_pl.decoders.sizes import Sizes
from nextgpt_pl.errors import UserError

_MASKS = ("prompt_attention_mask", "attention_mask", "prompt_embeds_mask")
# pipelines that PromptDecoder does not take, and their decoders
_CLASSES = {"StableAudioPipeline": "StableAudioDecoder", "AudioLDMPipeline": "AudioLDMDecoder"}


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
    known = {"prompt_embeds", POOLED, *_MASKS}
    taken = {name for name in call if "embeds" in name or name.endswith("mask") or "cu_seqlens" in name}
    unknown = {n for n in taken if "negative" not in n and "ip_adapter" not in n and "image" not in n} - known
    if unknown:
        raise UserError(
            f"decoder pipeline={pipeline!r}: its conditioning {', '.join(sorted(unknown))} is not supported; "
            f"supported are pipelines with prompt_embeds, one mask and one pooled vector, and {', '.join(FAMILIES)}"
        )


def check_one_encoder(pipeline_class: Any, call: Mapping[str, Any], owner: str, kind: str) -> None:
    """Check that a pipeline is conditioned on what one text encoder makes of a caption, and on nothing else.

    Args:
        pipeline_class: class of the pipeline.
        call: arguments of its call.
        owner: class name of the decoder.
        kind: class name of the text encoder.

    Raises:
        UserError: the pipeline takes other embeddings, or none; the message names the decoder for it.

    """
    name = pipeline_class.__name__
    check_takes_embeddings(name, call)
    parts = inspect.signature(pipeline_class.__init__).parameters
    encoders = [getattr(p.annotation, "__name__", "") for part, p in parts.items() if part.startswith("text_encoder")]
    others = [argument for argument in call if argument == POOLED or argument in _MASKS]
    if name in FAMILIES or encoders != [kind] or others or "negative_prompt_embeds" not in call:
        raise UserError(
            f"decoder pipeline={name!r}: {owner} is for pipelines with one text encoder, a {kind}; the class for this "
            f"pipeline is nextgpt_pl.decoders.{_CLASSES.get(name, 'PromptDecoder')}"
        )


def _common(sizes: Sizes) -> tuple[Block, ...]:
    """States of T5, or of all other encoders side by side; their mask; the pooled vector of the last CLIP."""
    encoders = [part for part in sizes.files.index() if part.startswith("text_encoder")]
    t5 = [part for part in encoders if "d_model" in sizes.config(part)]
    others = [part for part in encoders if part not in t5]
    width = sizes.width(t5[0]) if t5 else sum(sizes.width(part) for part in others)
    mask = next((name for name in _MASKS if name in sizes.call), None)
    states = Block("prompt_embeds", sizes.length, width, mask)
    if POOLED not in sizes.call or not others:
        return (states,)
    # with T5 it is CLIP's pooled state; with two CLIPs it is the projection of the last one
    pooled = int(sizes.config(others[-1])["hidden_size" if t5 else "projection_dim"])
    return states, Block(POOLED, 1, pooled, pooled=True)
