"""What is requested of the LLM for each dialogue: topic, kinds of media, and the prompt from a template."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from jinja2 import StrictUndefined, TemplateError

from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.pocket.world.scenes import pick
from nextgpt_pl.utils.bounded_jinja import BoundedEnvironment, render

_KINDS = tuple(modality.value for modality in GENERATED)


@dataclass(frozen=True)
class Template:
    """A prompt, as Jinja templates with the variables ``number``, ``topic``, ``kinds`` (names) and ``exchanges``.

    Args:
        user: the request.
        system: the system message; the description of the JSON is appended to it.

    """

    user: str
    system: str = ""


@dataclass(frozen=True)
class Bounds:
    """Bounds of a dialogue.

    Attributes:
        exchanges: lowest and highest number of pairs of a question and a reply.
        most_media: highest number of media.

    """

    exchanges: tuple[int, int]
    most_media: int


@dataclass(frozen=True)
class Plan:
    """One requested dialogue.

    Attributes:
        number: number of the dialogue.
        topic: its topic.
        kinds: modalities that occur in it, all at least once.
        exchanges: requested number of exchanges.
        system: system message.
        user: request.

    """

    number: int
    topic: str
    kinds: tuple[Modality, ...]
    exchanges: int
    system: str
    user: str


def seed_of(*names: object) -> int:
    """A seed below 2**31 from names and numbers; the same on every machine.

    >>> seed_of("ask", 0, 17) == seed_of("ask", 0, 17) != seed_of("ask", 0, 18)
    True

    """
    digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    return int.from_bytes(digest[:4], "big") % 2**31


class Prompts:
    """Draws a topic, a template, kinds of media and a number of exchanges for each dialogue.

    Args:
        topics: what dialogues are about.
        templates: prompts; one is drawn per dialogue.
        exchanges: lowest and highest number of pairs of a question and a reply; the paper has 3 to 7.
        kinds: modalities of the media.
        kinds_per_dialogue: lowest and highest number of different kinds in a dialogue.
        most_media: highest number of media in a dialogue.

    Raises:
        UserError: a list is empty, a bound is invalid, or a template has an error.

    """

    def __init__(
        self,
        topics: list[str],
        templates: list[Template],
        exchanges: tuple[int, int] = (3, 7),
        kinds: Sequence[str] = _KINDS,
        kinds_per_dialogue: tuple[int, int] = (1, 2),
        most_media: int = 6,
    ) -> None:
        for name, values in (("topics", topics), ("templates", templates), ("kinds", kinds)):
            if not values:
                raise UserError(f"prompts.{name}: at least one is expected")
        for kind in kinds:
            if kind not in GENERATED:
                raise UserError(f"prompts.kinds: {kind!r}: expected {', '.join(GENERATED)}")
        _check_range("exchanges", exchanges, 50)
        _check_range("kinds_per_dialogue", kinds_per_dialogue, len(set(kinds)))
        if most_media < kinds_per_dialogue[1]:
            raise UserError(f"prompts.most_media={most_media}: at least kinds_per_dialogue[1]={kinds_per_dialogue[1]}")
        self.topics, self.templates = list(topics), list(templates)
        self.kinds = [Modality(kind) for kind in dict.fromkeys(kinds)]
        self.kinds_per_dialogue, self.bounds = kinds_per_dialogue, Bounds(exchanges, most_media)
        self._environment = BoundedEnvironment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        for number in range(len(self.templates)):
            self._rendered(number, 0, self.topics[0], tuple(self.kinds[: kinds_per_dialogue[0]]), exchanges[0])

    def plan(self, number: int, seed: int = 0) -> Plan:
        """The request for dialogue ``number``; the same for the same seed."""
        rng = Random(f"build/{seed}/{number}")
        topic, template = pick(rng, self.topics), pick(rng, range(len(self.templates)))
        exchanges = pick(rng, range(self.bounds.exchanges[0], self.bounds.exchanges[1] + 1))
        count = pick(rng, range(self.kinds_per_dialogue[0], self.kinds_per_dialogue[1] + 1))
        drawn = sorted((rng.random(), kind) for kind in self.kinds)
        kinds = tuple(kind for _, kind in drawn[:count])
        return Plan(number, topic, kinds, exchanges, *self._rendered(template, number, topic, kinds, exchanges))

    def _rendered(
        self, template: int, number: int, topic: str, kinds: tuple[Modality, ...], exchanges: int
    ) -> tuple[str, str]:
        """System message and request."""
        names = [kind.value for kind in kinds]
        variables = {"number": number, "topic": topic, "kinds": names, "exchanges": exchanges}
        texts = self.templates[template].system, self.templates[template].user
        try:
            system, user = (render(self._environment.compiled(text), variables) for text in texts)
        except TemplateError as error:
            raise UserError(f"prompts.templates[{template}]: {error}") from error
        if not user.strip():
            raise UserError(f"prompts.templates[{template}].user: the request is empty")
        return system.strip(), user.strip()


def _check_range(name: str, bounds: tuple[int, int], highest: int) -> None:
    if not 1 <= bounds[0] <= bounds[1] <= highest:
        raise UserError(
            f"prompts.{name}={list(bounds)}: the lowest and the highest number are expected, within 1 to {highest}"
        )
