"""Arguments of :class:`~nextgpt_pl.model.NextGPT`, checked before anything is built; and ids of its signal spans."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from typing import Any, get_args

from nextgpt_pl.decoders.base import Decoder
from nextgpt_pl.dialogue.caption_spans import WordLimits
from nextgpt_pl.dialogue.history import MediaInHistory
from nextgpt_pl.dialogue.reply_media import ReplyMedia
from nextgpt_pl.encoders.base import Encoder
from nextgpt_pl.errors import UserError, at_least, nearest
from nextgpt_pl.modality import DECODABLE, GENERATED, MODALITIES, Modality

# arguments of projections that count something
_SIZES = ("depth", "depths", "expand", "feedforward", "groups", "heads", "layers", "num_tokens", "width")
_MOST_SIGNAL_TOKENS = 4096  # of one medium; a span of them must fit the LLM's context


def word_limits(decoders: Mapping[Modality, Decoder]) -> dict[Modality, WordLimits]:
    """Number of tokens of the words that each decoder takes, at least one; decoders that take none are left out."""
    return {m: WordLimits(1, decoder.max_tokens) for m, decoder in decoders.items() if decoder.takes_words}


def signal_counts(
    counts: Mapping[str, int], media: ReplyMedia, decoders: Mapping[Modality, Decoder]
) -> dict[Modality, int]:
    """Number of signal tokens per modality that has any: that of the YAML, or the table's.

    Optional modalities of the table have signal tokens if they have a decoder.

    Raises:
        UserError: a name is not a modality, or a number is out of bounds.

    """
    token_counts = {m: MODALITIES[m].num_signal_tokens for m in DECODABLE if m in GENERATED or m in decoders}
    for name, count in counts.items():
        if not 1 <= count <= _MOST_SIGNAL_TOKENS:
            raise UserError(f"num_signal_tokens.{name}={count}: from 1 to {_MOST_SIGNAL_TOKENS} tokens ask for one")
        token_counts[modality_of(name, "num_signal_tokens")] = count
    for modality, count in token_counts.items():
        media.check_count(modality, count)
    return token_counts


def with_separator(
    spans: Mapping[Modality, list[int]], separator: int | None, vocab_size: int
) -> dict[Modality, list[int]]:
    """Ids of the signal tokens with a separator between each two, if there is one.

    Raises:
        UserError: the separator is no id of the LLM's own vocabulary.

    """
    if separator is None:
        return dict(spans)
    if not 0 <= separator < vocab_size:
        raise UserError(f"network.signal_separator={separator}: the LLM's token ids are 0 to {vocab_size - 1}")
    return {m: [i for token in ids for i in (separator, token)][1:] for m, ids in spans.items()}


def check_sizes(key: str, sizes: Mapping[str, Any]) -> None:
    """Refuse layers without width and the like before any is made.

    Args:
        key: of the projection in the YAML.
        sizes: its arguments.

    Raises:
        UserError: a size is out of bounds, or two do not go together.

    """
    for name, value in sizes.items():
        if name == "dropout":
            if not 0 <= value < 1:
                raise UserError(f"network.{key}.dropout={value}: a probability, from 0 to below 1")
        elif name in _SIZES:
            for size in value if isinstance(value, (tuple, list)) else [value]:
                at_least(1, **{f"network__{key}__{name}": size})
    if "width" in sizes and "heads" in sizes and sizes["width"] % sizes["heads"]:
        raise UserError(f"network.{key}: width={sizes['width']} is not divisible by heads={sizes['heads']}")


def check_history(form: MediaInHistory, made: Collection[Modality], shown: Collection[Modality]) -> None:
    """Check ``media_in_history``; warn of modalities that the LLM makes but cannot be shown.

    Raises:
        UserError: there is no such form.

    """
    if form not in get_args(MediaInHistory):
        raise UserError(f"network.media_in_history={form!r}: one of {', '.join(get_args(MediaInHistory))}")
    unread = [m.value for m in made if m not in shown]
    if form != "signals" and unread:
        warnings.warn(
            f"network.media_in_history={form}: no encoder reads {', '.join(unread)}; media of earlier replies of this"
            " modality stay signals",
            stacklevel=3,
        )


def check_own(own: Collection[str], encoder: Encoder | None, shared: bool) -> None:
    """Check the modalities of ``own_input_projections``.

    Raises:
        UserError: the encoder does not read one, or one projection serves all modalities.

    """
    read = () if encoder is None else tuple(m.value for m in encoder.modalities)
    for name in own:
        if name not in read:
            raise UserError(f"network.own_input_projections.{name}: the encoder reads {', '.join(read) or 'nothing'}")
        if shared:
            raise UserError(f"network.own_input_projections.{name}: not with network.share_input_projection=true")


def modality_of(name: str, key: str) -> Modality:
    """The modality that a key of the YAML names.

    Raises:
        UserError: there is none of this name.

    """
    try:
        return Modality(name)
    except ValueError:
        raise UserError(f"network.{key}: {name!r} is no modality{nearest(name, [m.value for m in Modality])}") from None
