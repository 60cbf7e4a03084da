"""Tasks on the pocket world: its routes, its captions, its decoders without an LLM, and sampled replies."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from nextgpt_pl.errors import UserError, nearest
from nextgpt_pl.evaluation.scores import Score
from nextgpt_pl.evaluation.tasks import Item, Messages, Task
from nextgpt_pl.generation.generate import Decoding
from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.pipeline import Reply
from nextgpt_pl.pocket.parts import QUALITY, pocket_decoder
from nextgpt_pl.pocket.world import dialogues, grammar, talk
from nextgpt_pl.pocket.world.items import captioned_pair
from nextgpt_pl.pocket.world.scenes import Answer, attributes, item_rng
from nextgpt_pl.samples import Dialogue, Media, ReplyPart, TextPart
from nextgpt_pl.utils.paths import pocket_weights


def messages_of(dialogue: Dialogue) -> Messages:
    """The messages of a dialogue up to its last question, for the pipeline."""
    messages = []
    for message in dialogue.messages[:-1]:
        content: list[dict[str, Any]] = []
        for part in message.parts:
            if isinstance(part, TextPart):
                content.append({"type": "text", "text": part.text})
            else:
                # earlier replies are in the prompt as signal tokens, so their media are not needed
                shown = part.media or Media(part.modality, Path("earlier"))
                name = part.modality.value
                content.append({"type": name, name: shown, "caption": part.caption})
        messages.append({"role": message.role, "content": content})
    return messages


class PocketRoute(Task):
    """Held-out dialogues of one route of the pocket world.

    For routes from text to a medium, the reference number of ``all right`` is that of the decoder from captions.

    Args:
        route: such as ``image->text`` or ``text->image+audio``.
        scores: see :class:`Task`.
        count: number of dialogues.
        first: index of the first dialogue.
        max_new_tokens: see :class:`Task`.

    Raises:
        UserError: there is no such route.

    """

    def __init__(
        self, route: str, scores: Sequence[Score], count: int = 300, first: int = 0, max_new_tokens: int = 120
    ) -> None:
        own = measured_decoder(route.removeprefix("text->")).get("all_right")
        super().__init__(f"pocket {route}", scores, count, max_new_tokens, {} if own is None else {"all right": own})
        if route not in dialogues.ROUTES:
            raise UserError(f"route={route!r}: the pocket world has no such route{nearest(route, dialogues.ROUTES)}")
        self.route, self.first = route, first

    def items(self) -> Iterator[Item]:
        """Dialogues; an expected medium is rendered again, as reference for distances between sets."""
        for index in range(self.first, self.first + (self.count or 0)):
            dialogue = dialogues.dialogue(self.route, "heldout", index)
            assert dialogue.attributes is not None
            expected = dialogue.attributes["expected"]
            scene = expected[0][1] if expected else None
            reference: Media | None = None
            captions: tuple[str, ...] = ()
            if isinstance(scene, Answer):
                captions = (scene.words,)
            elif scene is not None:
                rng = item_rng("heldout", talk.modality_of(scene), index, 0, f"reference/{self.route}")
                captions = tuple(grammar.caption(scene, rng) for _ in range(5))
                reference = dialogues.medium_of(scene, rng) if expected[0][0] != "text" else None
            yield Item(
                dialogue.key,
                messages_of(dialogue),
                references=captions,
                reference=reference,
                expected=tuple((kind, dict(attributes(content))) for kind, content in expected),
            )


class PocketCaptions(Task):
    """Requests for media of held-out captions of one modality.

    Args:
        modality: requested modality.
        scores: see :class:`Task`.
        count: number of captions.

    """

    def __init__(self, modality: str, scores: Sequence[Score], count: int = 100) -> None:
        super().__init__(f"pocket captions {modality}", scores, count)
        self.modality = Modality(modality)

    def items(self) -> Iterator[Item]:
        """One per caption."""
        for index in range(self.count or 0):
            pair = captioned_pair("heldout", self.modality, index)
            assert pair.attributes is not None
            messages = [{"role": "user", "content": [{"type": "text", "text": str(pair.instruction)}]}]
            expected = ((self.modality.value, dict(pair.attributes)),)
            yield Item(pair.key, messages, (self.modality.value,), (pair.caption,), expected=expected)


class PocketDecoder(PocketCaptions):
    """Media of held-out captions, generated by a pocket decoder with its text encoder; no LLM is used.

    Args:
        modality: see :class:`PocketCaptions`.
        scores: see :class:`Task`.
        count: see :class:`PocketCaptions`.
        root: folder of pocket weights; by default the package's own.

    """

    def __init__(self, modality: str, scores: Sequence[Score], count: int = 100, root: Path | None = None) -> None:
        super().__init__(modality, scores, count)
        self.root = root

    @cached_property
    def decoder(self) -> Any:
        """The decoder, with its weights."""
        return pocket_decoder(self.modality, self.root)

    @torch.no_grad()
    def answer(self, model: Any, batch: Sequence[tuple[int, Item]], *, temperature: float, seed: int) -> list[Reply]:
        """One medium per caption; the seed of a batch is ``seed`` plus the index of its first item."""
        embeddings = self.decoder.embed_captions([item.references[0] for _, item in batch])
        arrays = self.decoder.generate(embeddings, seed=seed + batch[0][0])
        return [[ReplyPart(self.modality.value, array=array, rate=self.decoder.rate)] for array in arrays]


class PocketReplies(Task):
    """Replies sampled at temperature 1 to requests of all routes, as text only; no media are generated.

    Complete signal spans are removed from the text; other signal tokens are not.

    Args:
        scores: see :class:`Task`.
        count: number of replies.
        max_new_tokens: see :class:`Task`.

    """

    def __init__(self, scores: Sequence[Score], count: int = 1000, max_new_tokens: int = 160) -> None:
        super().__init__("pocket sampled replies", scores, count, max_new_tokens)

    def items(self) -> Iterator[Item]:
        """Dialogues of all routes in turn."""
        names = tuple(dialogues.ROUTES)
        for index in range(self.count or 0):
            dialogue = dialogues.dialogue(names[index % len(names)], "heldout", index)
            yield Item(dialogue.key, messages_of(dialogue))

    def answer(self, model: Any, batch: Sequence[tuple[int, Item]], *, temperature: float, seed: int) -> list[Reply]:
        """One text per item; the seed of a batch is ``seed`` plus the index of its first item."""
        decoding = Decoding(self.max_new_tokens, temperature=1.0, seed=seed + batch[0][0])
        replies: list[Reply] = []
        for row in model.write([item.messages for _, item in batch], decoding):
            span_positions = {position for span in row.spans for position in range(span.start, span.stop)}
            ids = [i for p, i in enumerate(row.input_ids) if row.labels[p] >= 0 and p not in span_positions]
            text = model.network.llm.tokenizer.decode(ids, skip_special_tokens=True)
            replies.append([ReplyPart("text", text=text.strip())])
        return replies


def measured_decoder(modality: str) -> Mapping[str, float]:
    """Results of ``pocket measure`` for one of the package's decoders; empty if there are none."""
    if modality not in GENERATED:
        return {}
    file = pocket_weights() / modality / QUALITY
    return json.loads(file.read_text(encoding="utf-8")).get("measured", {}) if file.is_file() else {}
