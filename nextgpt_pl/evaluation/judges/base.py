"""What judges are asked, and what they answer."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple


class Scale(NamedTuple):
    """One number that a judge gives.

    Attributes:
        name: its name.
        low: the worst value.
        high: the best value.
        meaning: what it measures.

    """

    name: str
    low: float
    high: float
    meaning: str


#: a question that is answered by yes (1) or no (0)
YES = Scale("yes", 0, 1, "1 if the answer is yes, 0 if it is no or cannot be told")


@dataclass(frozen=True)
class Inquiry:
    """One question to a judge.

    Attributes:
        text: the question in words.
        scales: the numbers that answer it.
        images: the images in question; of an edit, the source image is the first one.
        caption: what the last image should show.
        facts: the question in structured form, for judges that need no language.
        needs: type of the reply's part that the question is about: ``image``, ``text`` or ``anything``. A reply
            without it is not judged and gets the lowest values.

    """

    text: str
    scales: tuple[Scale, ...]
    images: tuple[Path, ...] = ()
    caption: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    needs: str = "image"

    def digest(self, judge: str) -> str:
        """A hash of the question, its images' content and the judge's identity."""
        scales = [list(scale) for scale in self.scales]
        asked = json.dumps([judge, self.text, scales, self.caption, dict(self.facts)], sort_keys=True)
        files = (image.read_bytes() for image in self.images)
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in (asked.encode(), *files))).hexdigest()


@dataclass(frozen=True)
class Judgement:
    """A judge's answer.

    Attributes:
        values: a value within its bounds per scale; ``None``: the answer cannot be parsed, or there is none.
        raw: the answer as it came.
        failed: why the judge could not be asked; ``None`` if it was.

    """

    values: Mapping[str, float] | None
    raw: str = ""
    failed: str | None = None


class Judge(ABC):
    """Answers questions about replies."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """Name and version, which are shown with each score; other answers need another identity."""

    @abstractmethod
    def judge(self, inquiries: Sequence[Inquiry]) -> list[Judgement]:
        """One answer per question.

        Raises:
            UserError: the judge cannot answer such questions.

        """
