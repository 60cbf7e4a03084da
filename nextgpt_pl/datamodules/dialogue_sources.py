"""Sources of dialogues: the pocket world, the official instruction files, LLaVA, Alpaca and VideoChat."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nextgpt_pl.datamodules.rows import RowReport, take
from nextgpt_pl.datamodules.sources import JSONSource, OnError, Shapes, Source, Split
from nextgpt_pl.datamodules.turns import in_order, placeholders, role_of, text_of, turns_of, with_placeholder
from nextgpt_pl.dialogue.conversation import parts_of
from nextgpt_pl.errors import UserError, at_least, nearest
from nextgpt_pl.modality import MODALITIES, Modality
from nextgpt_pl.pocket.world import dialogues
from nextgpt_pl.samples import Dialogue, MediaPart, Message, Part, TextPart


class PocketDialogues(Source):
    """Dialogues of the pocket world; validation has held-out combinations of attributes.

    Args:
        train_size: training dialogues per route.
        val_size: validation dialogues per route.
        routes: routes such as ``image->video``; by default all.
        times: factor of the number of training dialogues, per route; above 1 for routes that are harder to learn.
        seed: another seed gives another set.
        name: name of the data set, for its weight.

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
    media occur. The human's media are taken from ``input_X`` in order, the assistant's from ``output_X`` with
    ``X_captions`` and ``X_caption_embeddings``; each is one value or a list. A single input medium without a
    placeholder is put before the first question, a single output medium after the last answer.

    Args:
        root, files, media, embeddings, need_media, on_error, val_fraction: see :class:`JSONSource`.
        name: name of the data set, for its weight; by default the first file.

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
        turns = [(role_of(t), text_of(t)) for t in turns_of(row, "conversations")]
        inputs = self._inputs(file, row)
        outputs = self._outputs(file, row, embedding_shapes)
        turns = with_placeholder(turns, "user", inputs, first=True)
        turns = with_placeholder(turns, "assistant", outputs, first=False)
        messages = []
        for role, text in turns:
            media = outputs if role == "assistant" else inputs
            count = len(placeholders(text))
            turn_media, media[:] = media[:count], media[count:]
            messages.append(Message(role, parts_of(text, turn_media, where)))
        if inputs or outputs:
            raise UserError(f"{len(inputs)} input and {len(outputs)} output media have no placeholder in a turn")
        return [Dialogue(where, tuple(messages))]

    def _inputs(self, file: Path, row: dict[str, Any]) -> list[MediaPart]:
        names = [(m, n) for m in MODALITIES for key in (f"input_{m}", m.value) for n in take(row, key, optional=True)]
        parts = [
            MediaPart(m, self.media_file(file.parent / self.media[m], m, name, needed=self.need_media))
            for m, name in names
        ]
        return in_order(parts, row, "user")

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
                # only the denoising loss needs the file; all other losses work without it
                exists = medium is not None and isinstance(medium.source, Path) and medium.source.is_file()
                parts.append(MediaPart(modality, medium if exists else None, caption, embedding))
        return in_order(parts, row, "assistant")


class LLaVA(OfficialDialogues):
    """LLaVA's instruction JSON: ``image`` and ``conversations``; media are in the folder ``images``."""

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
    """Alpaca's JSON: ``instruction``, ``input`` (may be empty) and ``output``; text only."""

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
            raise UserError(f"an object is expected, got {row!r:.80}")
        question = "\n".join([*take(row, "instruction"), *(take(row, "input") if row.get("input") else [])])
        answer = take(row, "output")[0]
        return [Dialogue(where, (Message("user", (TextPart(question),)), Message("assistant", (TextPart(answer),))))]


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
        """All questions about a video as one dialogue; the video precedes the first question."""
        turns = turns_of(row, "QA")
        folder = file.parent / self.media[Modality.VIDEO]
        medium = self.media_file(folder, Modality.VIDEO, take(row, "video")[0], needed=self.need_media)
        messages: list[Message] = []
        for turn in turns:
            if not isinstance(turn, dict):
                raise UserError(f"QA: an object with q and a is expected, got {turn!r:.80}")
            question: list[Part] = [] if messages else [MediaPart(Modality.VIDEO, medium)]
            question.append(TextPart("\n".join([*take(turn, "i", optional=True), *take(turn, "q")])))
            messages += [Message("user", tuple(question)), Message("assistant", (TextPart(take(turn, "a")[0]),))]
        return [Dialogue(where, tuple(messages))]
