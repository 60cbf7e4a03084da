"""Where dialogues come from: the pocket world, the official instruction files, LLaVA, Alpaca and VideoChat."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from nextgpt_pl.datamodules.rows import RowReport, take
from nextgpt_pl.datamodules.sources import JSONSource, OnError, Shapes, Source, Split
from nextgpt_pl.dialogue.conversation import parts_of
from nextgpt_pl.errors import UserError, at_least, nearest
from nextgpt_pl.modality import MODALITIES, Modality
from nextgpt_pl.pocket.world import dialogues
from nextgpt_pl.samples import Dialogue, MediaPart, Message, Part, Role, TextPart

_ROLES: dict[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}
assert set(_ROLES.values()) == set(get_args(Role))


class PocketDialogues(Source):
    """Dialogues of the pocket world; validation has held-out combinations of attributes.

    Args:
        train_size: dialogues per route to train on.
        val_size: dialogues per route to validate on.
        routes: which ones, as in ``image->video``; by default all.
        times: of these routes so many times as many dialogues to train on: what is harder to learn.
        seed: another seed is another set.
        name: of the data set, for its share.

    """

    def __init__(
        self,
        train_size: int = 512,
        val_size: int = 16,
        routes: list[str] | None = None,
        times: dict[str, int] | None = None,
        seed: int = 0,
        name: str = "pocket",
    ) -> None:
        for route in (*(routes or ()), *(times or ())):
            if route not in dialogues.ROUTES:
                raise UserError(f"PocketDialogues.routes: no route {route!r}{nearest(route, dialogues.ROUTES)}")
        at_least(0, PocketDialogues__train_size=train_size, PocketDialogues__val_size=val_size)
        at_least(0, PocketDialogues__seed=seed, **{f"PocketDialogues__times__{r}": n for r, n in (times or {}).items()})
        self.sizes: dict[str, int] = {"train": train_size, "val": val_size}
        self.routes, self.seed, self.name = tuple(routes or dialogues.ROUTES), seed, name
        self.times = dict(times or {})

    def read(self, split: Split, embedding_shapes: Shapes) -> Sequence[Dialogue]:
        """All dialogues of the split, one route after the other."""
        side: Any = "train" if split == "train" else "heldout"
        times = self.times if split == "train" else {}
        sizes = {route: self.sizes[split] * times.get(route, 1) for route in self.routes}
        self.report = RowReport("pocket dialogues", sum(sizes.values()))
        return [dialogues.dialogue(route, side, i, self.seed) for route, size in sizes.items() for i in range(size)]


class OfficialDialogues(JSONSource):
    """The official instruction data (T+X to T, T to T+X, MosIT), and LLaVA's, whose ``image`` is an ``input_image``.

    A row has ``conversations`` of turns from ``human`` and ``gpt``, with ``<image>``, ``<video>`` and ``<audio>`` where
    media stand. The human's media are taken from ``input_X`` in order, the assistant's from ``output_X`` with
    ``X_captions`` and ``X_caption_embeddings``; each is one value or a list. An only input medium without a placeholder
    stands in front of the first question, an only output medium behind the last answer.

    Args:
        root, files, media, embeddings, need_media, on_error, val_fraction: see :class:`JSONSource`.
        name: of the data set, for its share; by default the first file.

    """

    def __init__(
        self,
        root: Path,
        files: list[str],
        media: dict[str, str] | None = None,
        embeddings: str = "embed",
        need_media: bool = True,
        on_error: OnError = "raise",
        val_fraction: float = 0.0,
        name: str | None = None,
    ) -> None:
        super().__init__(root, files, media, embeddings, need_media, on_error, val_fraction)
        self.name = name or self.name

    def items(self, file: Path, row: Any, where: str, embedding_shapes: Shapes) -> list[Dialogue]:
        """One dialogue."""
        turns = [(_role(t), _text(t)) for t in _turns(row, "conversations")]
        shown = self._inputs(file, row)
        made = self._outputs(file, row, embedding_shapes)
        turns = _with_placeholder(turns, "user", shown, first=True)
        turns = _with_placeholder(turns, "assistant", made, first=False)
        messages = []
        for role, text in turns:
            media = made if role == "assistant" else shown
            count = len(_placeholders(text))
            taken, media[:] = media[:count], media[count:]
            messages.append(Message(role, parts_of(text, taken, where)))
        if shown or made:
            raise UserError(f"{len(shown)} input and {len(made)} output media have no placeholder in the conversation")
        return [Dialogue(where, tuple(messages))]

    def _inputs(self, file: Path, row: dict[str, Any]) -> list[MediaPart]:
        named = [(m, n) for m in MODALITIES for key in (f"input_{m}", m.value) for n in take(row, key, optional=True)]
        parts = [
            MediaPart(m, self.media_file(file.parent / self.media[m], m, name, needed=self.need_media))
            for m, name in named
        ]
        return _in_order(parts, row, "user")

    def _outputs(self, file: Path, row: dict[str, Any], shapes: Shapes) -> list[MediaPart]:
        parts = []
        for modality in MODALITIES:
            names = take(row, f"output_{modality}", optional=True)
            captions = take(row, f"{modality}_captions", optional=True)
            vectors = take(row, f"{modality}_caption_embeddings", optional=True)
            if names and len(captions) != len(names):
                raise UserError(f"{len(names)} files in output_{modality}, but {len(captions)} captions")
            for index, caption in enumerate(captions):
                embedding = self.embedding_file(self.embeddings, vectors, index, shapes.get(modality))
                name = names[index] if names else None
                medium = (
                    self.media_file(file.parent / self.media[modality], modality, name, needed=False) if name else None
                )
                # only the denoising loss looks at it: a data set without is as good for the rest
                there = medium is not None and isinstance(medium.source, Path) and medium.source.is_file()
                parts.append(MediaPart(modality, medium if there else None, caption, embedding))
        return _in_order(parts, row, "assistant")


class LLaVA(OfficialDialogues):
    """LLaVA's instruction JSON: ``image`` and ``conversations``; images beside the JSON unless ``media`` says else."""

    def __init__(
        self,
        root: Path,
        files: list[str],
        images: str = "images",
        need_media: bool = True,
        on_error: OnError = "raise",
        val_fraction: float = 0.0,
        name: str = "llava",
    ) -> None:
        super().__init__(
            root,
            files,
            {"image": images},
            need_media=need_media,
            on_error=on_error,
            val_fraction=val_fraction,
            name=name,
        )


class Alpaca(JSONSource):
    """Alpaca's JSON: ``instruction``, ``input`` (may be empty) and ``output``; text alone."""

    def __init__(
        self,
        root: Path,
        files: list[str],
        on_error: OnError = "raise",
        val_fraction: float = 0.0,
        name: str = "alpaca",
    ) -> None:
        super().__init__(root, files, on_error=on_error, val_fraction=val_fraction)
        self.name = name

    def items(self, file: Path, row: Any, where: str, embedding_shapes: Shapes) -> list[Dialogue]:
        """One exchange."""
        if not isinstance(row, dict):
            raise UserError(f"an object is expected, this is {row!r:.80}")
        asked = "\n".join([*take(row, "instruction"), *(take(row, "input") if row.get("input") else [])])
        answer = take(row, "output")[0]
        return [Dialogue(where, (Message("user", (TextPart(asked),)), Message("assistant", (TextPart(answer),))))]


class VideoChat(JSONSource):
    """VideoChat's JSON: ``video`` and ``QA``, a list of ``q`` and ``a`` with an optional instruction ``i``."""

    def __init__(
        self,
        root: Path,
        files: list[str],
        videos: str = "videos",
        need_media: bool = True,
        on_error: OnError = "raise",
        val_fraction: float = 0.0,
        name: str = "videochat",
    ) -> None:
        super().__init__(root, files, {"video": videos}, "embed", need_media, on_error, val_fraction)
        self.name = name

    def items(self, file: Path, row: Any, where: str, embedding_shapes: Shapes) -> list[Dialogue]:
        """All questions about a video as one dialogue; the video stands in front of the first."""
        turns = _turns(row, "QA")
        folder = file.parent / self.media[Modality.VIDEO]
        medium = self.media_file(folder, Modality.VIDEO, take(row, "video")[0], needed=self.need_media)
        messages: list[Message] = []
        for turn in turns:
            if not isinstance(turn, dict):
                raise UserError(f"QA: an object with q and a is expected, this is {turn!r:.80}")
            asked: list[Part] = [] if messages else [MediaPart(Modality.VIDEO, medium)]
            asked.append(TextPart("\n".join([*take(turn, "i", optional=True), *take(turn, "q")])))
            messages += [Message("user", tuple(asked)), Message("assistant", (TextPart(take(turn, "a")[0]),))]
        return [Dialogue(where, tuple(messages))]


def _turns(row: Any, key: str) -> list[Any]:
    if not isinstance(row, dict):
        raise UserError(f"an object is expected, this is {row!r:.80}")
    turns = row.get(key)
    if not isinstance(turns, list) or not turns:
        raise UserError(f"{key}={turns!r:.80}: a list of turns is expected{'' if key in row else nearest(key, row)}")
    return turns


def _role(turn: Any) -> Role:
    name = turn.get("from") if isinstance(turn, dict) else None
    if not isinstance(name, str) or name not in _ROLES:
        raise UserError(f"a turn from {name!r:.80}: known are {', '.join(_ROLES)}")
    return _ROLES[name]


def _text(turn: dict[str, Any]) -> str:
    value = turn.get("value")
    if not isinstance(value, str):
        raise UserError(f"a turn's value is {value!r:.80}: a text is expected")
    return value


def _placeholders(text: str) -> list[Modality]:
    """The modalities of a text's placeholders, in order."""
    found = [(i, m) for m, spec in MODALITIES.items() for i in _positions(text, spec.placeholder)]
    return [m for _, m in sorted(found)]


def _positions(text: str, needle: str) -> list[int]:
    return [i for i in range(len(text)) if text.startswith(needle, i)]


def _in_order(parts: list[MediaPart], row: dict[str, Any], role: Role) -> list[MediaPart]:
    """The media in the order of the placeholders in the role's turns: the row lists them by modality."""
    left = list(parts)
    ordered = []
    for turn in _turns(row, "conversations"):
        if _role(turn) != role:
            continue
        for modality in _placeholders(_text(turn)):
            match = next((p for p in left if p.modality is modality), None)
            if match is None:
                raise UserError(f"a turn has {MODALITIES[modality].placeholder}, but the row gives no such medium")
            left.remove(match)
            ordered.append(match)
    return ordered + left


def _with_placeholder(
    turns: list[tuple[Role, str]], role: Role, media: list[MediaPart], *, first: bool
) -> list[tuple[Role, str]]:
    """Put the placeholder of an only medium in, where the conversation has none."""
    mine = [i for i, (r, _) in enumerate(turns) if r == role]
    if len(media) != 1 or not mine or any(_placeholders(turns[i][1]) for i in mine):
        return turns
    index = mine[0] if first else mine[-1]
    text, placeholder = turns[index][1], MODALITIES[media[0].modality].placeholder
    changed = f"{placeholder}\n{text}" if first else f"{text} {placeholder}"
    return [*turns[:index], (role, changed), *turns[index + 1 :]]
