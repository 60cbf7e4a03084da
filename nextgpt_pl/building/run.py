"""The course of a build: dialogues are requested in parallel, and decided in the order of their numbers."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from nextgpt_pl.building import rows
from nextgpt_pl.building.answers import Rejected, decoded, encoded, parse
from nextgpt_pl.building.connection import Connection, Reply
from nextgpt_pl.building.duplicates import NearDuplicates, SeenTexts
from nextgpt_pl.building.endpoint import Endpoint
from nextgpt_pl.building.journal import DialogueRecord, Journal, Record, ReplyRecord, records
from nextgpt_pl.building.media import MediaSource, Wanted, find_all
from nextgpt_pl.building.plans import Plan, Prompts, seed_of
from nextgpt_pl.building.totals import NO_REPLY, Totals
from nextgpt_pl.building.workers import Stopped, Workers
from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import Message

NEAR_DUPLICATE = "near-duplicate"
_PATIENCE = 20  # dialogues before too many dropped ones end the build

Messages = tuple[Message, ...]


@dataclass(frozen=True)
class Settings:
    """The arguments of :class:`~nextgpt_pl.building.Build`."""

    endpoint: Endpoint
    prompts: Prompts
    media: Mapping[Modality, Sequence[MediaSource]]
    count: int
    seed: int
    tries: int
    duplicates: NearDuplicates
    max_dropped: float

    def plan(self, number: int) -> Plan:
        """The request for dialogue ``number``."""
        return self.prompts.plan(number, self.seed)


class Run:
    """One call of :meth:`~nextgpt_pl.building.Build.run`.

    Args:
        settings: the build.
        folder: folder of the data set.
        journal: the folder's journal, open.
        connection: connection to the endpoint.

    Attributes:
        totals: counts of the journal and of what is added to it.

    """

    def __init__(self, settings: Settings, folder: Path, journal: Journal, connection: Connection) -> None:
        self.settings, self.folder, self.journal, self.connection = settings, folder, journal, connection
        self.totals, self.seen = Totals(), SeenTexts(settings.duplicates)
        self.replies: dict[int, list[ReplyRecord]] = {}  # of dialogues that are not decided yet
        self._lock = threading.Lock()
        for record in records(folder):
            self.totals.count(record)
            if isinstance(record, ReplyRecord):
                self.replies.setdefault(record.number, []).append(record)
            else:
                self._decided(record)
        self.workers = Workers(self._written, settings.endpoint.concurrency)

    def go(self, goal: int) -> None:
        """Add dialogues until ``goal`` are kept."""
        with tqdm(total=self.settings.count, initial=self.totals.kept, unit="dialogue") as bar:
            try:
                while self.totals.kept < goal:
                    self._request(goal - self.totals.kept)
                    number = self.totals.decided
                    record = self._decide(self.settings.plan(number), self.workers.result(number))
                    self._add(record)
                    self._decided(record)
                    bar.update(record.dropped is None)
                    bar.set_postfix_str(self._cost())
                    self._check_dropped()
            finally:
                self._settle()

    def _request(self, needed: int) -> None:
        """Request further dialogues; never more than are needed if all of them are kept."""
        number = self.totals.decided
        for following in range(number, number + min(needed, self.settings.endpoint.concurrency)):
            if following not in self.workers.pending:
                self.workers.begin(following)

    def _settle(self) -> None:
        """End the workers, and wait for the replies under way, which are paid for; they are noted for the next run."""
        under_way = sum(not future.done() for future in self.workers.pending.values())
        if under_way:
            tqdm.write(f"stopping: {under_way} requests are under way; Ctrl-C again stops without their replies")
        self.workers.stop()

    def _written(self, number: int) -> Messages | None:
        """The dialogue that the LLM wrote; ``None`` if no reply is usable. Runs in the workers' threads."""
        plan, known = self.settings.plan(number), self.replies.get(number, [])
        for record in known:
            if record.messages is not None:
                return decoded(record.messages)
        for index in range(len(known), self.settings.tries):
            if self.workers.stopped:
                raise Stopped
            reply = self.connection.ask(plan, seed_of("ask", self.settings.seed, number, index))
            messages = self._noted(plan, reply)
            if messages is not None:
                return messages
        return None

    def _noted(self, plan: Plan, reply: Reply) -> Messages | None:
        """Add a reply to the journal; returns its dialogue if it is usable."""
        messages, rejected, detail = None, reply.fault, ""
        if rejected is None:
            try:
                messages = parse(reply.text, plan, self.settings.prompts.bounds)
            except Rejected as error:
                rejected, detail = error.reason, error.detail
        numbers = (reply.tokens_in, reply.tokens_out, reply.repeats, reply.estimated)
        self._add(ReplyRecord(plan.number, *numbers, rejected, detail, encoded(messages) if messages else None))
        return messages

    def _add(self, record: Record) -> None:
        with self._lock:
            self.journal.add(record)
            self.totals.count(record)

    def _decided(self, record: DialogueRecord) -> None:
        self.replies.pop(record.number, None)
        if record.row is not None:
            self.seen.add(record.number, rows.user_text(record.row["conversations"]))

    def _decide(self, plan: Plan, messages: Messages | None) -> DialogueRecord:
        """Keep a dialogue and write its media, or drop it."""
        if messages is None:
            return DialogueRecord(plan.number, dropped=NO_REPLY, detail=f"{self.settings.tries} replies were rejected")
        similar = self.seen.similar(rows.user_text(rows.turns_of(messages)))
        if similar is not None:
            detail = f"similarity {similar[1]:.2f} to dialogue {similar[0]}"
            return DialogueRecord(plan.number, dropped=NEAR_DUPLICATE, detail=detail)
        wanted = [
            Wanted(part.modality, part.caption or "", seed_of("media", self.settings.seed, plan.number, index))
            for index, (_, part) in enumerate(rows.media_of(messages))
        ]
        found = find_all(self.settings.media, wanted)
        complete = [result for result in found if result is not None]
        if len(complete) < len(found):
            missing = wanted[found.index(None)]
            return DialogueRecord(plan.number, dropped=f"no {missing.modality} found", detail=missing.caption)
        return DialogueRecord(
            plan.number,
            rows.write_row(plan, messages, complete, self.folder),
            topic=plan.topic,
            captions=[result.caption for result in complete],
            media=dict(Counter(f"{w.modality} {result.origin}" for w, result in zip(wanted, complete, strict=True))),
            refused=sum(result.tries - 1 for result in complete),
        )

    def _cost(self) -> str:
        totals, endpoint = self.totals, self.settings.endpoint
        projected = totals.projected(endpoint, self.settings.count)
        return f"cost {totals.cost(endpoint):.4f}, projected {projected:.4f}, {totals.dropped.total()} dropped"

    def _check_dropped(self) -> None:
        dropped, decided = self.totals.dropped.total(), self.totals.decided
        if decided >= _PATIENCE and dropped > self.settings.max_dropped * decided:
            raise UserError(
                f"max_dropped={self.settings.max_dropped}: {dropped} of {decided} dialogues were dropped; "
                f"{self.journal.path} has the reasons"
            )
