"""Examples of messages that a run can answer, by what its ``config.yaml`` names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nextgpt_pl.config.yaml_files import read_yaml
from nextgpt_pl.errors import UserError
from nextgpt_pl.media.writing import save
from nextgpt_pl.modality import DECODABLE, MODALITIES, Modality
from nextgpt_pl.pocket.world.items import captioned_pair

_QUESTION = "Which shapes do you know?"
_REQUESTS = {
    Modality.IMAGE: "Draw a large red star in the center on black.",
    Modality.VIDEO: "Make a video of a small blue circle moving left on white.",
    Modality.AUDIO: "Play two short high bells.",
    Modality.SPEECH: "Say hello.",
}
_POCKET = "pocket:"  # begins the names of the pocket world's weights in a YAML
_SHOWN = (Modality.IMAGE, Modality.AUDIO)
_ITEM = 5  # of the pocket world, a held-out one


@dataclass(frozen=True)
class Abilities:
    """What a run can answer with, and whether it knows media of the pocket world.

    Attributes:
        media: modalities that it has decoders of.
        pocket: whether its encoder is that of the pocket world.

    """

    media: tuple[Modality, ...] = ()
    pocket: bool = False


def abilities_of(run: Path) -> Abilities:
    """The abilities of a run's folder, whose weights are not read; none if its ``config.yaml`` is not that of a run."""
    try:
        network = read_yaml(run / "config.yaml")["model"]["init_args"]["network"]
        arguments = network.get("init_args", network)
        decoders, encoder = arguments.get("decoders") or {}, arguments.get("encoder") or {}
        weights = encoder.get("init_args", {}).get("weights")
    except (UserError, KeyError, TypeError, AttributeError):  # loading the run says what is wrong
        return Abilities()
    media = tuple(m for m in DECODABLE if m in decoders) if isinstance(decoders, Mapping) else ()
    return Abilities(media, str(weights).startswith(_POCKET))


def examples_of(abilities: Abilities, folder: Path) -> list[dict[str, Any]]:
    """Examples as Gradio's Chatbot takes them: a request per medium, a question, and questions about media.

    Args:
        abilities: of the run.
        folder: of the media of the pocket world, which are written there once.

    """
    texts = [_REQUESTS[modality] for modality in abilities.media if modality in _REQUESTS]
    examples: list[dict[str, Any]] = [{"text": text} for text in (*texts, _QUESTION)]
    if abilities.pocket:
        examples += [_shown(modality, folder) for modality in _SHOWN]
    return examples


def _shown(modality: Modality, folder: Path) -> dict[str, Any]:
    """A medium of the pocket world, and the question about it."""
    pair = captioned_pair("heldout", modality, _ITEM)
    file = folder / f"example_{modality}{MODALITIES[modality].sample_suffix}"
    if not file.exists():
        assert pair.media is not None
        assert callable(pair.media.source)
        save(pair.media.source(), modality, file, pair.media.fps or pair.media.sample_rate)
    return {"text": pair.question, "files": [str(file)]}
