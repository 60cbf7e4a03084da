"""Tasks over data files, which are read as in training: captioning, generating, editing, and answering of questions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nextgpt_pl.datamodules.data_files import DataFiles
from nextgpt_pl.errors import UserError
from nextgpt_pl.evaluation.data_rows import captioned_media, rows_for_test
from nextgpt_pl.evaluation.scores import Score
from nextgpt_pl.evaluation.tasks import Item, Messages, Remark, Task, messages_of
from nextgpt_pl.readers.files import inside
from nextgpt_pl.readers.formats import rows_of
from nextgpt_pl.readers.layouts.captions import modality_by_ending
from nextgpt_pl.readers.model import Captioned, LeftOut, Question, Row
from nextgpt_pl.readers.values import text
from nextgpt_pl.samples import Media, Message, TextPart


def _ask(text: str, *media: Media) -> Messages:
    content = [{"type": m.modality.value, m.modality.value: m} for m in media]
    return [{"role": "user", "content": [*content, {"type": "text", "text": text}]}]


class _OfData(Task):
    """Base of tasks over data files.

    Args:
        name: see :class:`Task`.
        data: the data files, with the arguments that they have in training. The rows of the split ``test`` are used,
            and those of files that give no split; ``split: {test: [val]}`` chooses another one.
        scores: see :class:`Task`.
        prompt: the question.
        count: see :class:`Task`.
        max_new_tokens: see :class:`Task`.
        paper: see :class:`Task`.

    """

    placeholder = ""  # in the prompt

    def __init__(
        self,
        name: str,
        data: DataFiles,
        scores: Sequence[Score],
        prompt: str,
        count: int | None = None,
        max_new_tokens: int = 120,
        paper: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(name, scores, count, max_new_tokens, paper)
        if self.placeholder not in prompt:
            raise UserError(f"task {name!r}: prompt={prompt!r}: it must contain {self.placeholder}")
        self.data, self.prompt, self.data_root = data, prompt, data.root

    def missing(self) -> list[str]:
        """Missing files and folders of the data."""
        return self.data.missing(media=True)


class Captioning(_OfData):
    """Captioning of media; all captions of a medium are its references."""

    def items(self) -> Iterator[Item | Remark]:
        """One item per medium."""
        for found in captioned_media(self.data):
            if isinstance(found, Item | Remark):
                yield found
            else:
                yield self._item(*found)

    def _item(self, key: str, record: Captioned) -> Item:
        if record.media is None:
            return Item.broken(key, UserError("the row has a caption and no medium"))
        return Item(key, _ask(self.prompt, record.media), (), record.captions)


class Generating(Captioning):
    """Generation of media from their first caption, which replaces ``{caption}`` in the prompt."""

    placeholder = "{caption}"

    def _item(self, key: str, record: Captioned) -> Item:
        messages = _ask(self.prompt.replace("{caption}", record.captions[0]))
        return Item(key, messages, (record.modality.value,), record.captions[:1], record.media)


class Editing(Task):
    """Editing of media by an instruction.

    Edits are read from a JSONL file or table; the edits of the paper's tables are not published. A row has ``file``,
    ``instruction``, ``caption`` (of the result) and optionally ``target`` (the file of the result).

    Args:
        name: see :class:`Task`.
        root: folder of the media.
        scores: see :class:`Task`.
        edits: the file of edits, below ``root``.
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
        self.data_root = self.root = root.resolve()
        self.edits = inside(self.root, edits)

    def missing(self) -> list[str]:
        """The file of edits, if it is missing."""
        return [] if self.edits.is_file() else [f"edits: {self.edits}: no such file"]

    def items(self) -> Iterator[Item]:
        """One item per edit; without a target, the source medium is the reference."""
        for number, row in enumerate(rows_of(self.edits)):
            try:
                yield self._item(number, row)
            except UserError as error:
                yield Item.broken(f"{self.edits.name}, row {number}", error)

    def _item(self, number: int, row: Any) -> Item:
        if isinstance(row, UserError):
            raise row
        if not isinstance(row, dict):
            raise UserError(f"an object is expected, got {row!r:.80}")
        name, medium = text(row, "file"), self._medium(row, "file")
        target = self._medium(row, "target") if row.get("target") else medium
        messages, caption = _ask(text(row, "instruction"), medium), text(row, "caption")
        return Item(f"{number}/{name}", messages, (medium.modality.value,), (caption,), target)

    def _medium(self, row: Mapping[str, Any], key: str) -> Media:
        name = text(row, key)
        return Media(modality_by_ending(name), inside(self.root, name))


class QuestionAnswering(_OfData):
    """Short answers to questions about media; conversations are asked for their last reply.

    Args:
        name: see :class:`Task`.
        scores: see :class:`Task`.
        data: see :class:`Captioning`; ``joins: {question_id: FILE}`` names the file of VQAv2's answers.
        root, questions, annotations, file: the same for data in VQAv2's format: folder of all files, file of the
            questions, file of their answers (``None``: they are in that of the questions), and pattern of the media's
            paths, such as ``val2014/COCO_val2014_{id:012d}.jpg``, where ``id`` is the ``image_id``, ``video_id`` or
            ``audio_id``.
        prompt: prompt, in which ``{question}`` is replaced by the question.
        count: see :class:`Task`.
        paper: see :class:`Task`.
        max_new_tokens: see :class:`Task`.

    Raises:
        UserError: neither ``data`` nor ``root`` and ``questions`` are given, or both.

    """

    placeholder = "{question}"

    def __init__(
        self,
        name: str,
        scores: Sequence[Score],
        data: DataFiles | None = None,
        root: Path | None = None,
        questions: str | None = None,
        annotations: str | None = None,
        file: str | None = None,
        prompt: str = "{question} Answer in one word or a short phrase.",
        count: int | None = None,
        paper: Mapping[str, float] | None = None,
        max_new_tokens: int = 16,
    ) -> None:
        if (data is None) == (root is None or questions is None) or (data is not None and root is not None):
            raise UserError(f"task {name!r}: either data is expected, or root and questions")
        if data is None:
            assert root is not None
            assert questions is not None
            # the file of MSVD-QA has both
            joins = None if annotations in (None, questions) else {"question_id": str(annotations)}
            pattern = None if file is None else file.replace("{id", "{medium_id")
            data = DataFiles(root, [questions], joins=joins, media_name=pattern)
        super().__init__(name, data, scores, prompt, count, max_new_tokens, paper)

    def items(self) -> Iterator[Item | Remark]:
        """One item per question with answers."""
        for found in rows_for_test(self.data):
            if isinstance(found, Item | Remark):
                yield found
                continue
            where, records = found
            try:
                yield from [self._item(record, where) for record in records]
            except LeftOut as reason:
                yield Remark(reason.remark)
            except UserError as error:
                yield Item.broken(where, error)

    def _item(self, record: Row, where: str) -> Item:
        if isinstance(record, Captioned):
            raise UserError("a medium and its captions, but a question is expected; Captioning reads such rows")
        if isinstance(record, Question):
            asked, answers, key = (
                [Message("user", (*record.media, TextPart(record.text)))],
                record.answers,
                record.identity,
            )
        else:
            asked, answers, key = [*record.messages], _reply(record.messages), ""
            if answers:
                asked.pop()
        if not answers:
            raise LeftOut("their questions have no answers, so that no reply can be scored")
        if not any(answer.strip() for answer in answers):
            raise UserError("every answer is empty: there is nothing to compare with")
        return Item(key or where, self._prompted(messages_of(asked)), (), tuple(answers))

    def _prompted(self, messages: Messages) -> Messages:
        """The messages with the prompt around the last text of the last one."""
        *before, last = messages
        content = list(last["content"])
        place = next((i for i in reversed(range(len(content))) if content[i]["type"] == "text"), None)
        if place is None:
            raise UserError("the question has no text")
        content[place] = {"type": "text", "text": self.prompt.replace("{question}", content[place]["text"])}
        return [*before, {**last, "content": content}]


def _reply(messages: Sequence[Message]) -> tuple[str, ...]:
    """The text of the last reply; empty if there is none."""
    if len(messages) < 2 or messages[-1].role != "assistant":
        return ()
    texts = [part.text for part in messages[-1].parts if isinstance(part, TextPart)]
    if len(texts) != len(messages[-1].parts):
        raise LeftOut("their last reply has media, and QuestionAnswering compares texts")
    return (" ".join(texts),)
