"""How well a model answers on each route of the pocket world: replies to held-out dialogues, read by the judges."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from nextgpt_pl.generation.generate import Decoding
from nextgpt_pl.modality import Modality
from nextgpt_pl.pipeline import AnyToAny, Messages, Reply
from nextgpt_pl.pocket.judges import media as judge
from nextgpt_pl.pocket.judges.text import judge_said
from nextgpt_pl.pocket.world import dialogues
from nextgpt_pl.pocket.world.scenes import Answer, Scene
from nextgpt_pl.samples import Dialogue, Media, TextPart

#: rows of the table, and what the project holds itself to
ROUTES: dict[str, float] = {
    "image->text": 0.95,
    "video->text": 0.90,
    "audio->text": 0.90,
    "text->image": 0.95,
    "text->video": 0.95,
    "text->audio": 0.95,
    "image->video": 0.85,
    "audio->image": 0.85,
    "image+text->image": 0.85,
    "text->image+audio": 0.85,
    "brief": 0.90,
    "question": 0.90,
    "beyond": 0.90,
}
#: the same, and one on which nothing is judged but that no medium is made
SCORED = (*ROUTES, "text->text")
#: those on which no medium is asked for
SILENT = tuple(route for route in SCORED if route.endswith("->text") or route in ("question", "beyond"))


@dataclass
class RouteScore:
    """What was counted on one route.

    Attributes:
        items: replies.
        right: replies with all attributes right.
        kinds_right: replies with the right kinds and numbers of media, in order.
        examples: a few (request, reply text, right).

    """

    items: int = 0
    right: int = 0
    kinds_right: int = 0
    examples: list[tuple[str, str, bool]] = field(default_factory=list)

    def row(self) -> dict[str, float]:
        """Shares, for logs."""
        count = max(1, self.items)
        return {"items": self.items, "all_right": self.right / count, "kinds_right": self.kinds_right / count}


def messages_of(dialogue: Dialogue) -> Messages:
    """A dialogue up to its last question, as the pipeline takes it."""
    found = []
    for message in dialogue.messages[:-1]:
        content: list[dict[str, Any]] = []
        for part in message.parts:
            if isinstance(part, TextPart):
                content.append({"type": "text", "text": part.text})
            else:
                # of an earlier reply, only the signal tokens are in the prompt: what it showed does not matter
                shown = part.media or Media(part.modality, Path("earlier"))
                name = part.modality.value
                content.append({"type": name, name: shown, "caption": part.caption})
        found.append({"role": message.role, "content": content})
    return found


def reply_matches(
    text: str, media: Sequence[tuple[str, Callable[[], np.ndarray]]], expected: Iterable[tuple[str, Scene | Answer]]
) -> tuple[bool, list[dict[str, bool]]]:
    """Whether a reply holds the right kinds of media in order, and per expected scene which attributes are right.

    Args:
        text: all that the reply says.
        media: kind of each medium, and what reads it; of the wrong media, the first of a wanted kind is judged.
        expected: what is to be said (``text``) or shown, in order.

    """
    wanted, left, found = list(expected), list(media), []
    fits = [kind for kind, _ in media] == [kind for kind, _ in wanted if kind != "text"]
    for kind, scene in wanted:
        seen: Scene | Answer | None
        if kind == "text":
            seen = judge_said(text, scene)
        else:
            place = next((i for i, (other, _) in enumerate(left) if other == kind), None)
            seen = None if place is None else judge.judge(left.pop(place)[1](), Modality(kind))
        found.append(judge.matches(seen, scene))
    return fits, found


def reply_is_right(reply: Reply, expected: Iterable[tuple[str, Scene | Answer]]) -> bool:
    """Whether each expected scene is what the reply says, or shows, in order."""
    text = " ".join(part.text or "" for part in reply if part.type == "text")
    media = [(part.type, partial(np.asarray, part.array)) for part in reply if part.type != "text"]
    fits, found = reply_matches(text, media, expected)
    return fits and all(all(matches.values()) for matches in found)


def score_route(model: AnyToAny, route: str, count: int, batch: int = 50) -> RouteScore:
    """Answer and judge ``count`` dialogues of a route."""
    score = RouteScore()
    decoding = {"temperature": 0.0, "max_new_tokens": 120}
    for start in tqdm(range(0, count, batch), desc=route):
        numbers = range(start, min(count, start + batch))
        items = [dialogues.dialogue(route, "heldout", i) for i in numbers]
        replies = model.batch([messages_of(d) for d in items], seeds=[10 * i for i in numbers], **decoding)
        for item, reply in zip(items, replies, strict=True):
            assert item.attributes is not None
            expected = item.attributes["expected"]
            kinds = [kind for kind, _ in expected if kind != "text"]
            made = [part.type for part in reply if part.type != "text"]
            right = reply_is_right(reply, expected)
            score.items += 1
            score.right += right
            score.kinds_right += kinds == made
            if len(score.examples) < 5:
                score.examples.append((_asked(item), _said(reply), right))
    return score


def malformed_spans(model: AnyToAny, count: int, batch: int = 50) -> int:
    """Signal tokens outside of whole spans, in ``count`` sampled replies to requests of all routes."""
    signal_ids = model.conversation.signal_ids
    every = {i for ids in signal_ids.values() for i in ids}
    names = tuple(dialogues.ROUTES)
    stray = 0
    for start in tqdm(range(0, count, batch), desc="malformed spans"):
        numbers = range(start, min(count, start + batch))
        items = [dialogues.dialogue(names[i % len(names)], "heldout", i) for i in numbers]
        rows = model.write([messages_of(d) for d in items], Decoding(temperature=1.0, seed=start))
        for row in rows:
            inside = {p for span in row.spans for p in range(span.start, span.stop)}
            labelled = (p for p, label in enumerate(row.labels) if label >= 0)
            stray += sum(row.input_ids[p] in every and p not in inside for p in labelled)
    return stray


def _asked(dialogue: Dialogue) -> str:
    return " ".join(p.text if isinstance(p, TextPart) else f"<{p.modality}>" for p in dialogue.messages[-2].parts)


def _said(reply: Reply) -> str:
    return " ".join(part.text or f"<{part.type}>" for part in reply)
