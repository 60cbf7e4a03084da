"""The exact judge of the pocket world: reads the objects of an image from its pixels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from nextgpt_pl.errors import UserError
from nextgpt_pl.evaluation.judges.base import Inquiry, Judge, Judgement
from nextgpt_pl.media.reading import array_of
from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.judges.picture import judge_image
from nextgpt_pl.pocket.judges.text import judge_text, named
from nextgpt_pl.pocket.world.scenes import OPTIONS, POSITIONS, ImageScene, Thing
from nextgpt_pl.samples import Media

_VERSION = 1
#: the direction (x, y) of each relation, y pointing down; published files write them with and without "of"
_RELATIONS = {"left": (-1, 0), "right": (1, 0), "above": (0, -1), "below": (0, 1)}
_TUPLE = re.compile(r"\s*(entity|attribute|relation|other|global)\b[^(]*\((.*)\)\s*", re.DOTALL)
_ATTRIBUTES = ("shape", "colour", "size", "position", "background")
_COUNT = re.compile(r"\D*(\d+)\s*")


class ExactJudge(Judge):
    """Answers GenEval's and DPG-Bench's questions on images of the pocket world, and compares images with captions.

    Objects are shapes, with the attributes of the world: ``{"class": "circle", "count": 1, "color": "red"}``, or the
    tuple ``attribute - color (circle, red)``. Any other question needs a caption with all attributes of a scene: its
    numbers are the best ones if the image shows exactly that scene, and the worst ones otherwise.
    """

    @property
    def identity(self) -> str:
        """Name and version of the judge."""
        return f"exact judge {_VERSION}"

    def judge(self, inquiries: Sequence[Inquiry]) -> list[Judgement]:
        """One answer per question."""
        return [self._judgement(inquiry) for inquiry in inquiries]

    def _judgement(self, inquiry: Inquiry) -> Judgement:
        if not inquiry.images:
            raise UserError(f"{self.identity}: it judges images only, not {inquiry.text!r:.80}")
        scene = judge_image(array_of(Media(Modality.IMAGE, inquiry.images[-1]))[0])
        right = self._right(inquiry, scene)
        return Judgement({scale.name: scale.high if right else scale.low for scale in inquiry.scales}, str(scene))

    def _right(self, inquiry: Inquiry, scene: ImageScene | None) -> bool:
        if "include" in inquiry.facts:
            return scene is not None and shows(scene, inquiry.facts)
        if "tuple" in inquiry.facts:
            return scene is not None and holds(scene, str(inquiry.facts["tuple"]))
        expected = judge_text(inquiry.caption, Modality.IMAGE)
        if expected is None:
            raise UserError(f"{self.identity}: {inquiry.caption!r:.80} does not describe an image of the pocket world")
        return scene == expected


def shows(scene: ImageScene, facts: Mapping[str, Any]) -> bool:
    """Whether a scene satisfies all ``include`` and no ``exclude`` clauses of GenEval.

    A clause takes the objects of its class and colour; there are no confidences to choose the objects by.
    """
    groups: list[Sequence[Thing]] = []
    for clause in facts["include"]:
        found = _objects(scene, clause["class"], clause.get("color"))[: int(clause["count"])]
        if len(found) < int(clause["count"]):
            return False
        if clause.get("position"):
            relation, target = clause["position"]
            if not all(_related(a, b, relation) for a in found for b in groups[int(target)]):
                return False
        groups.append(found)
    return not any(
        len(_objects(scene, c["class"], c.get("color"))) >= int(c["count"]) for c in facts.get("exclude", ())
    )


def holds(scene: ImageScene, proposition: str) -> bool:
    """Whether a scene satisfies a tuple of DPG-Bench, such as ``relation - spatial (circle, star, left of)``.

    Raises:
        UserError: the tuple is not about shapes, their attributes, relations, number, or the background.

    """
    match = _TUPLE.fullmatch(proposition)
    terms = [term.strip() for term in match[2].split(",")] if match else []
    kind = match[1] if match else None
    if kind == "entity" and len(terms) == 1:
        return bool(_objects(scene, terms[0]))
    if kind == "attribute" and len(terms) == 2:
        return any(_canonical(terms[1]) in vars(thing).values() for thing in _objects(scene, terms[0]))
    if kind == "relation" and len(terms) == 3:
        first, second = (_objects(scene, term) for term in terms[:2])
        return any(_related(a, b, terms[2]) for a in first for b in second if a is not b)
    if kind == "other" and len(terms) == 2 and (number := _COUNT.fullmatch(terms[1])):
        return len(_objects(scene, terms[0])) == int(number[1])
    if kind == "global" and len(terms) == 1:
        return _canonical(terms[0]) == scene.background
    raise UserError(f"the pocket world has no counterpart of the tuple {proposition!r:.80}")


def _objects(scene: ImageScene, shape: str, colour: str | None = None) -> list[Thing]:
    wanted, tint = _canonical(shape, "shape"), None if colour is None else _canonical(colour, "colour")
    return [thing for thing in scene.things if thing.shape == wanted and tint in (None, thing.colour)]


def _canonical(words: str, *attributes: str) -> str:
    """The pocket world's word for a value; plurals are accepted."""
    found = {words.lower()} | (named(words) or named(words.removesuffix("s")))
    known = {option for attribute in attributes or _ATTRIBUTES for option in OPTIONS[attribute]}
    (word, *others) = sorted(found & known) or [""]
    if not word or others:
        raise UserError(f"{words!r:.60} is no value of the pocket world; known are {', '.join(sorted(known))}")
    return word


def _related(first: Thing, second: Thing, relation: str) -> bool:
    """Whether the first object lies in a direction from the second one, within 60 degrees, as in GenEval."""
    names = [name for name in _RELATIONS if name in relation]
    if len(names) != 1:
        raise UserError(f"{relation!r:.60} is no relation of the pocket world; known are {', '.join(_RELATIONS)}")
    (x, y), (own_x, own_y), (other_x, other_y) = (
        _RELATIONS[names[0]],
        POSITIONS[first.position],
        POSITIONS[second.position],
    )
    dx, dy = own_x - other_x, own_y - other_y
    distance = (dx**2 + dy**2) ** 0.5
    return distance > 0 and (dx * x + dy * y) / distance > 0.5
