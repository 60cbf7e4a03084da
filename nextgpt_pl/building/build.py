"""Builds a data set of dialogues: an LLM writes them, sources of media illustrate them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from nextgpt_pl.building import rows
from nextgpt_pl.building.connection import chat_messages, prompt_tokens
from nextgpt_pl.building.duplicates import NearDuplicates
from nextgpt_pl.building.endpoint import Endpoint
from nextgpt_pl.building.journal import Journal
from nextgpt_pl.building.media import MediaSource
from nextgpt_pl.building.plans import Prompts
from nextgpt_pl.building.run import Run, Settings
from nextgpt_pl.building.totals import Totals
from nextgpt_pl.errors import UserError, at_least
from nextgpt_pl.modality import Modality
from nextgpt_pl.utils.atomic import delete_abandoned
from nextgpt_pl.utils.processes import locked

_SAMPLED = 100  # prompts whose length is estimated


class Build:
    """A data set of dialogues, and how it is made.

    Args:
        endpoint: the LLM.
        prompts: what is requested of it.
        media: per modality, sources of media; a later one is asked for what the earlier ones do not have. A dialogue
            with a medium that none has is dropped.
        count: number of dialogues.
        seed: seed of requests and media.
        tries: highest number of replies per dialogue; the dialogue is dropped if none is usable.
        duplicates: criterion of near-duplicates.
        max_dropped: share of dropped dialogues above which the build ends with an error, after at least 20 dialogues.

    Raises:
        UserError: an argument is invalid, or a kind of media has no source.

    """

    def __init__(
        self,
        endpoint: Endpoint,
        prompts: Prompts,
        media: dict[str, list[MediaSource]],
        count: int,
        seed: int = 0,
        tries: int = 3,
        duplicates: NearDuplicates | None = None,
        max_dropped: float = 0.5,
    ) -> None:
        at_least(1, count=count, tries=tries)
        at_least(0, max_dropped=max_dropped)
        for kind in prompts.kinds:
            if not media.get(kind.value):
                raise UserError(f"media.{kind}: prompts.kinds has {kind}, so at least one source is expected")
        if unknown := [name for name in media if name not in prompts.kinds]:
            raise UserError(f"media.{unknown[0]}: no kind of prompts.kinds ({', '.join(prompts.kinds)})")
        sources: Mapping[Modality, Sequence[MediaSource]] = {Modality(name): s for name, s in media.items()}
        criterion = duplicates or NearDuplicates()
        self.settings = Settings(endpoint, prompts, sources, count, seed, tries, criterion, max_dropped)

    def preview(self) -> str:
        """The first prompt, and an estimate of the cost; nothing is requested."""
        count, endpoint = self.settings.count, self.settings.endpoint
        plans = [self.settings.plan(number) for number in range(min(count, _SAMPLED))]
        tokens_in = sum(map(prompt_tokens, plans)) * count // len(plans)
        tokens_out = endpoint.max_tokens * count
        texts = [f"--- {message['role']}\n{message['content']}" for message in chat_messages(plans[0])]
        estimate = (
            f"--- {count} dialogues by {endpoint.model}: about {tokens_in:,} tokens in, at most {tokens_out:,} out; "
            f"at most {endpoint.cost(tokens_in, tokens_out):.4f} if every first reply is usable"
        )
        return "\n".join([*texts, estimate])

    def run(self, folder: Path, limit: int | None = None) -> Totals:
        """Build what ``folder`` lacks, and write the JSON of all dialogues that it has.

        An interruption loses the replies under way at most. A build that is continued makes the same data set as one
        that was never interrupted, if the LLM gives the same replies.

        Args:
            folder: folder of the data set; created if it does not exist.
            limit: highest number of dialogues that are added.

        Raises:
            UserError: the endpoint refuses requests or fails, too many dialogues are dropped, or a journal is invalid.
            KeyboardInterrupt: interrupted; all that was complete is saved.

        """
        folder.mkdir(parents=True, exist_ok=True)
        shown = self.settings.endpoint, self.settings.count
        with locked(folder / "lock"), self.settings.endpoint.connected() as connection:
            delete_abandoned(folder)
            with closing(Journal(folder)) as journal, rows.scratch_folder(folder):
                run = Run(self.settings, folder, journal, connection)
                try:
                    run.go(self.settings.count if limit is None else min(self.settings.count, run.totals.kept + limit))
                finally:
                    rows.write_rows(folder)
                    print("\n".join([*run.totals.lines(*shown), f"data set: {folder / rows.FILE}"]))
                return run.totals
