"""Counts and costs of a build."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from nextgpt_pl.building.endpoint import Endpoint
from nextgpt_pl.building.journal import DialogueRecord, Record

NO_REPLY = "no usable reply"


@dataclass
class Totals:
    """Counts over all records of a journal.

    Attributes:
        kept: number of dialogues in the data set.
        dropped: number of dropped dialogues per reason.
        replies: number of usable replies.
        rejected: number of rejected replies per reason.
        media: number of media per origin, of kept dialogues.
        refused: number of media that were refused before these were found.
        tokens_in: tokens of all prompts.
        tokens_out: tokens of all replies.
        repeats: number of repeated requests.
        estimated: number of replies whose tokens are estimated.

    """

    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    replies: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    media: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    repeats: int = 0
    estimated: int = 0

    @property
    def decided(self) -> int:
        """Number of kept and dropped dialogues; also the number of the next one."""
        return self.kept + self.dropped.total()

    def count(self, record: Record) -> None:
        """Count a record."""
        if isinstance(record, DialogueRecord):
            if record.dropped is None:
                self.kept += 1
                self.media.update(record.media)
                self.refused += record.refused
            else:
                self.dropped[record.dropped] += 1
            return
        self.tokens_in, self.tokens_out = self.tokens_in + record.tokens_in, self.tokens_out + record.tokens_out
        self.repeats += record.repeats
        self.estimated += record.estimated
        if record.rejected is None:
            self.replies += 1
        else:
            self.rejected[record.rejected] += 1

    def cost(self, endpoint: Endpoint) -> float:
        """Price of all replies so far."""
        return endpoint.cost(self.tokens_in, self.tokens_out)

    def projected(self, endpoint: Endpoint, count: int) -> float:
        """Price of ``count`` kept dialogues, if the rest costs as much per dialogue and is dropped as often."""
        answered = self.replies + self.dropped[NO_REPLY]
        needed = count * self.decided / self.kept if self.kept else count
        return self.cost(endpoint) * max(1.0, needed / max(1, answered))

    def lines(self, endpoint: Endpoint, count: int) -> list[str]:
        """The counts in words."""
        tokens = f"{self.tokens_in:,} tokens in, {self.tokens_out:,} out"
        estimates = f" ({self.estimated} replies without numbers of tokens: estimated)" if self.estimated else ""
        return [
            f"{self.kept} of {count} dialogues",
            f"dropped: {_listed(self.dropped)}",
            f"rejected replies: {_listed(self.rejected)}; repeated requests: {self.repeats}",
            f"media: {_listed(self.media)}; refused before: {self.refused}",
            f"cost: {self.cost(endpoint):.4f} for {tokens}{estimates}; "
            f"projected for {count} dialogues: {self.projected(endpoint, count):.4f}",
        ]


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"
