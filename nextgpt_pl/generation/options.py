"""Options of a reply: decoding, and sampling arguments of the decoders; all are checked before tokens are generated."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from nextgpt_pl.decoders.base import Decoder
from nextgpt_pl.errors import UserError, nearest
from nextgpt_pl.generation.decoding import Decoding, check_seed
from nextgpt_pl.modality import DECODABLE, Modality


def reply_options(
    options: Mapping[str, Any], decoders: Mapping[Modality, Decoder]
) -> tuple[Decoding, dict[Modality, dict[str, Any]]]:
    """Decoding options, and sampling arguments per modality.

    Args:
        options: fields of :class:`Decoding`, with names of modalities as ``modalities``; and per modality a dictionary
            of sampling arguments of its decoder.
        decoders: decoder per generated modality.

    Raises:
        UserError: an option is unknown, out of bounds or of another type, or is for a modality without decoder.

    """
    own = dict(options)
    sampling = {m: _sampling(m, own.pop(m.value, {}), decoders) for m in DECODABLE}
    known = [*vars(Decoding()), *(m.value for m in DECODABLE)]
    for name in own:
        if name not in known:
            raise UserError(f"{name}: no such option{nearest(name, known)}")
    if own.get("modalities") is not None:
        if isinstance(own["modalities"], str) or not isinstance(own["modalities"], Collection):
            raise UserError(f"modalities={own['modalities']!r}: a list, such as ['image']")
        own["modalities"] = [_maker(name, decoders) for name in own["modalities"]]
    return Decoding(**own), sampling


def seeds_of(seeds: Iterable[int] | None, seed: int, count: int) -> list[int]:
    """The seed of the media of each of ``count`` conversations: ``seeds``, or ``seed`` for all.

    Raises:
        UserError: there are more or fewer, or one is no valid seed.

    """
    own = [seed] * count if seeds is None else list(seeds)
    if len(own) != count:
        raise UserError(f"seeds: {len(own)} given for {count} conversations")
    for number, value in enumerate(own):
        check_seed(value, f"seeds[{number}]")
    return own


def _sampling(modality: Modality, arguments: Any, decoders: Mapping[Modality, Decoder]) -> dict[str, Any]:
    if not isinstance(arguments, Mapping):
        raise UserError(f"{modality.value}={arguments!r:.60}: expected a dictionary of sampling arguments")
    if arguments and modality not in decoders:
        raise UserError(f"{modality.value}: sampling arguments for a modality without decoder")
    if arguments:
        decoders[modality].check_sampling(arguments)
    return dict(arguments)


def _maker(name: str, decoders: Mapping[Modality, Decoder]) -> Modality:
    makers = [m.value for m in decoders]
    if str(name) not in makers:
        raise UserError(f"modalities: no decoder makes {str(name)!r}; there are {', '.join(makers) or 'none'}")
    return Modality(str(name))
