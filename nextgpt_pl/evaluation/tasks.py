"""Evaluation tasks: questions, references and scores."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nextgpt_pl.errors import UserError
from nextgpt_pl.evaluation.layouts import CaptionLayout, jsonl
from nextgpt_pl.evaluation.scores import Score
from nextgpt_pl.modality import Modality, modality_of_file
from nextgpt_pl.pipeline import Reply
from nextgpt_pl.readers.files import inside
from nextgpt_pl.samples import Media

Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Item:
    """One question of a task.

    Attributes:
        key: unique within the task.
        messages: the conversation up to the question, for the pipeline.
        modalities: media that the reply must contain; ``None``: the model decides.
        references: reference texts.
        reference: reference medium; a :class:`Media` is written to the predictions' folder, a string is the path of a
            file in the task's data folder.
        expected: exact content in the pocket world.

    """

    key: str
    messages: Messages
    modalities: tuple[str, ...] | None = None
    references: tuple[str, ...] = ()
    reference: Media | str | None = None
    expected: tuple[tuple[str, dict[str, Any]], ...] = ()


class Task(ABC):
    """A named set of questions with scores.

    Args:
        name: name of the task, in tables and files.
        scores: scores of its predictions.
        count: maximum number of items; ``None``: all.
        max_new_tokens: maximum number of tokens of a reply.
        paper: reference value by score name, such as the paper's, for the report.

    Attributes:
        data_root: folder of the reference media; ``None``: the predictions' folder.

    """

    data_root: Path | None = None

    def __init__(
        self,
        name: str,
        scores: Sequence[Score],
        count: int | None = None,
        max_new_tokens: int = 120,
        paper: Mapping[str, float] | None = None,
    ) -> None:
        self.name, self.scores, self.count = name, list(scores), count
        self.max_new_tokens, self.paper = max_new_tokens, dict(paper or {})

    @abstractmethod
    def items(self) -> Iterator[Item]:
        """All items, in a fixed order."""

    def missing(self) -> list[str]:
        """Missing files and folders of the task."""
        return []

    def answer(self, model: Any, batch: Sequence[tuple[int, Item]], *, temperature: float, seed: int) -> list[Reply]:
        """Replies to consecutive items with the same modalities.

        Args:
            model: an :class:`~nextgpt_pl.pipeline.AnyToAny`.
            batch: pairs of the item's number in the task and the item.
            temperature: sampling temperature of the text.
            seed: seed of media and text; the seed of the media of item n is ``seed + 10 * n``.

        """
        modalities = batch[0][1].modalities
        return model.batch(
            [item.messages for _, item in batch],
            seeds=[seed + 10 * number for number, _ in batch],
            seed=seed,
            temperature=temperature,
            max_new_tokens=self.max_new_tokens,
            modalities=None if modalities is None else list(modalities),
        )


def _ask(text: str, *media: Media) -> Messages:
    content = [{"type": m.modality.value, m.modality.value: m} for m in media]
    return [{"role": "user", "content": [*content, {"type": "text", "text": text}]}]


class _OfLayout(Task):
    """Base of tasks over a captioned data set."""

    def __init__(
        self,
        name: str,
        data: CaptionLayout,
        scores: Sequence[Score],
        prompt: str,
        count: int | None = None,
        max_new_tokens: int = 120,
        paper: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(name, scores, count, max_new_tokens, paper)
        self.data, self.prompt, self.data_root = data, prompt, data.root

    def missing(self) -> list[str]:
        """Missing files of the data set."""
        return self.data.missing()


class Captioning(_OfLayout):
    """Captioning of media."""

    def items(self) -> Iterator[Item]:
        """One item per medium."""
        for entry in self.data.entries():
            medium = Media(self.data.modality, inside(self.data.root, entry.file))
            yield Item(entry.key, _ask(self.prompt, medium), (), entry.captions)


class Generating(_OfLayout):
    """Generation of media from their first caption, which replaces ``{caption}`` in the prompt."""

    def items(self) -> Iterator[Item]:
        """One item per medium."""
        if "{caption}" not in self.prompt:
            raise UserError(f"prompt={self.prompt!r}: it must contain {{caption}}")
        for entry in self.data.entries():
            messages = _ask(self.prompt.replace("{caption}", entry.captions[0]))
            yield Item(entry.key, messages, (self.data.modality.value,), entry.captions[:1], entry.file)


class Editing(Task):
    """Editing of media by an instruction.

    Edits are read from a JSONL file; the edits of the paper's tables are not published. A line has ``file``,
    ``instruction``, ``caption`` (of the result) and optionally ``target`` (the file of the result).

    Args:
        name: see :class:`Task`.
        root: folder of the media.
        scores: see :class:`Task`.
        edits: the JSONL file, below ``root``.
        count: see :class:`Task`.
        max_new_tokens: see :class:`Task`.
        paper: see :class:`Task`.

    """

    def __init__(
        self,
        name: str,
        root: Path,
        scores: Sequence[Score],
        edits: str = "edits.jsonl",
        count: int | None = None,
        max_new_tokens: int = 120,
        paper: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(name, scores, count, max_new_tokens, paper)
        self.root, self.data_root, self.edits = root, root, root / edits

    def missing(self) -> list[str]:
        """The file of edits, if it is missing."""
        return [] if self.edits.is_file() else [str(self.edits)]

    def items(self) -> Iterator[Item]:
        """One item per edit; without a target, the source medium is the reference."""
        for number, row in enumerate(jsonl(self.edits, ("file", "instruction", "caption"))):
            name = str(row["file"])
            modality = modality_of_file(name)
            messages = _ask(str(row["instruction"]), Media(modality, inside(self.root, name)))
            reference = str(row.get("target", name))
            yield Item(f"{number}/{name}", messages, (modality.value,), (str(row["caption"]),), reference)


class QuestionAnswering(Task):
    """Short answers to questions about media, in VQAv2's format of questions and annotations.

    Args:
        name: see :class:`Task`.
        root: folder of all files.
        questions: JSON with ``questions``: ``question_id``, ``question`` and ``image_id`` (or ``video_id``,
            ``audio_id``).
        annotations: JSON with ``annotations``: ``question_id`` and ``answers``.
        file: pattern of media paths below ``root``, such as ``val2014/COCO_val2014_{id:012d}.jpg``.
        scores: see :class:`Task`.
        prompt: prompt, in which ``{question}`` is replaced by the question.
        count: see :class:`Task`.
        paper: see :class:`Task`.

    """

    def __init__(
        self,
        name: str,
        root: Path,
        questions: str,
        annotations: str,
        file: str,
        scores: Sequence[Score],
        prompt: str = "{question} Answer in one word or a short phrase.",
        count: int | None = None,
        paper: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(name, scores, count, 16, paper)
        self.root, self.file, self.prompt = root, file, prompt
        self.questions, self.annotations = root / questions, root / annotations

    def missing(self) -> list[str]:
        """Missing files of questions and annotations."""
        return [str(path) for path in (self.questions, self.annotations) if not path.is_file()]

    def items(self) -> Iterator[Item]:
        """One item per question with answers."""
        answers = {row["question_id"]: row for row in json.loads(self.annotations.read_text())["annotations"]}
        for row in json.loads(self.questions.read_text())["questions"]:
            known = answers.get(row["question_id"])
            if known is None:
                continue
            name = self.file.format(id=next(row[key] for key in ("image_id", "video_id", "audio_id") if key in row))
            medium = Media(Modality(modality_of_file(name)), inside(self.root, name))
            texts = tuple(a["answer"] if isinstance(a, dict) else str(a) for a in known["answers"])
            question_text = self.prompt.replace("{question}", row["question"])
            yield Item(str(row["question_id"]), _ask(question_text, medium), (), texts)
