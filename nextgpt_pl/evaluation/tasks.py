"""Evaluation tasks: questions, references and scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from nextgpt_pl.errors import UserError
from nextgpt_pl.evaluation.scores import Score
from nextgpt_pl.pipeline import Reply
from nextgpt_pl.samples import Media, Message, TextPart

Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Item:
    """One question of a task.

    Attributes:
        key: unique within the task.
        messages: the conversation up to the question, for the pipeline.
        modalities: media that the reply must contain; ``None``: the model decides.
        references: reference texts.
        reference: reference medium; unless it is a file in the task's data folder, it is written to the predictions'
            folder.
        expected: exact content in the pocket world.
        about: what a benchmark's file says about the item, as JSON values, for its scores.
        fault: why the item's row cannot be used; ``None`` if it can.

    """

    key: str
    messages: Messages
    modalities: tuple[str, ...] | None = None
    references: tuple[str, ...] = ()
    reference: Media | None = None
    expected: tuple[tuple[str, dict[str, Any]], ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)
    fault: str | None = None

    @classmethod
    def broken(cls, where: str, error: UserError) -> Item:
        """The item of a row that cannot be used, by the row's name."""
        return cls(where, (), (), fault=str(error))


class Remark(NamedTuple):
    """A remark on a row, which is counted in the report, such as that it is left out on purpose."""

    text: str


class Task(ABC):
    """A named set of questions with scores.

    Args:
        name: name of the task, in tables and files.
        scores: scores of its predictions.
        count: maximum number of items; ``None``: all.
        max_new_tokens: maximum number of tokens of a reply.
        paper: reference value by score name, such as the paper's, for the report.

    Attributes:
        data_root: folder of the data; reference media in it are not copied. ``None``: there is none.

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
    def items(self) -> Iterator[Item | Remark]:
        """All items, in a fixed order, and remarks on rows that have none."""

    def missing(self) -> list[str]:
        """A message for each missing file and folder of the task."""
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


def messages_of(asked: Sequence[Message]) -> Messages:
    """Messages for the pipeline.

    Raises:
        UserError: a medium has no file.

    """
    messages = []
    for message in asked:
        content: list[dict[str, Any]] = []
        for part in message.parts:
            if isinstance(part, TextPart):
                content.append({"type": "text", "text": part.text})
            else:
                name = part.modality.value
                if part.media is None:
                    raise UserError(f"the {message.role}'s {name} has no file, and the later turns may need it")
                content.append({"type": name, name: part.media, "caption": part.caption})
        messages.append({"role": message.role, "content": content})
    return messages
