"""What the page's events call: the arguments are values of components, the results new values."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from nextgpt_pl.demo.examples import Abilities, abilities_of, examples_of
from nextgpt_pl.demo.models import Models
from nextgpt_pl.demo.pane import pane_html
from nextgpt_pl.demo.replies import Settings, reply
from nextgpt_pl.demo.session import Session
from nextgpt_pl.demo.uploads import Limits
from nextgpt_pl.modality import Modality

_PLURAL = {Modality.IMAGE: "images", Modality.VIDEO: "videos", Modality.AUDIO: "sounds", Modality.SPEECH: "speech"}
DECIDES, CHOSEN = "the model decides", "only these:"


def settings_of(
    run: str,
    decides: str,
    media: list[str],
    seed: int,
    temperature: float,
    tokens: int,
    guidance: float,
    steps: int,
    recorded: bool,
) -> Settings:
    """The settings of the controls' values; Gradio shows an empty number as 0."""
    modalities = list(media) if decides == CHOSEN else None
    return Settings(run, modalities, seed, temperature, tokens, guidance or None, steps or None, recorded)


class Handlers:
    """Handlers that use the model or its files.

    A message is taken at once, and its reply is generated when the replies before it are complete.

    Args:
        models: the runs that the page offers.
        limits: bounds on messages.
        folder: of generated media.

    """

    def __init__(self, models: Models, limits: Limits, folder: Path) -> None:
        self._models, self._limits, self._folder = models, limits, folder

    def take(self, message: dict[str, Any] | None, session: Session | None) -> tuple[Any, ...]:
        """Take a message: the box is emptied, and the conversation shows it. While a reply is awaited, do nothing.

        Returns:
            The box, the session, its messages, and the button that stops the reply.

        """
        session = session or Session.begin(self._folder)
        if _awaited(session):
            return (gr.skip(),) * 4
        given = message or {}
        session.ask(given.get("text") or "", list(given.get("files") or []))
        return None, session, session.shown, gr.Button(interactive=True)

    def again(self, session: Session | None) -> tuple[Any, ...]:
        """Take the last message again. While a reply is awaited, or without a message, do nothing.

        Returns:
            The session, its messages, and the button that stops the reply.

        """
        if session is None or _awaited(session) or (asked := session.undo()) is None:
            return (gr.skip(),) * 3
        session.ask(*asked)
        return session, session.shown, gr.Button(interactive=True)

    def answer(self, session: Session | None, *controls: Any) -> Iterator[tuple[Any, ...]]:
        """Generate the reply to the message that was taken, if one was.

        Yields:
            The session, its messages, the pane, and the button that stops the reply.

        """
        if session is None or not session.busy:
            yield (gr.skip(),) * 4
            return
        for loaded in reply(session, self._models, self._limits, settings_of(*controls)):
            pane = pane_html(session.records, loaded.nearest if loaded else None)
            yield session, session.shown, pane, gr.Button(interactive=session.busy)

    def abilities(self, run: str) -> Abilities:
        """The abilities of a run by its name; none of a name that the page does not offer."""
        folder = self._models.folders.get(run)
        return abilities_of(folder) if folder else Abilities()

    def chosen_run(self, run: str) -> tuple[Any, Any]:
        """The examples, and the choice of media, of a run that was chosen."""
        abilities = self.abilities(run)
        return gr.Chatbot(examples=self.examples(abilities)), gr.CheckboxGroup(media_of(abilities), value=[])

    def examples(self, abilities: Abilities) -> list[Any]:
        """Examples that a run can answer."""
        return examples_of(abilities, self._folder)


def media_of(abilities: Abilities) -> list[tuple[str, str]]:
    """The media that replies can be restricted to: their names in the page, and those of the modalities."""
    return [(_PLURAL.get(modality, modality.value), modality.value) for modality in abilities.media]


def stop(session: Session | None) -> None:
    """End the reply that is being generated or waits for its turn."""
    if session is not None:
        session.stop.set()


def close(session: Session | None) -> None:
    """End a conversation, and delete its media."""
    if session is not None:
        session.close()


def clear(session: Session | None) -> tuple[None, list[Any], str]:
    """Begin a new conversation."""
    close(session)
    return None, [], ""


def chosen_example(event: gr.SelectData) -> dict[str, Any]:
    """The message of an example, into the box."""
    return {"text": event.value["text"], "files": [file["path"] for file in event.value.get("files") or []]}


def _awaited(session: Session) -> bool:
    """Whether the session awaits a reply; the page says so."""
    if session.busy:
        gr.Warning("A reply is being generated: wait for it, or stop it.")
    return session.busy
