"""Replies of the page: the visitor's message through the model, step by step into the session."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nextgpt_pl.demo.models import Loaded, Models
from nextgpt_pl.demo.session import Session, text_item
from nextgpt_pl.demo.uploads import Limits, content_of
from nextgpt_pl.dialogue.context import dropped_note
from nextgpt_pl.errors import UserError
from nextgpt_pl.generation.stopping import Stop
from nextgpt_pl.generation.streaming import joined
from nextgpt_pl.pipeline import AnyToAny
from nextgpt_pl.samples import ReplyPart

ALTERNATIVES = 5
_PREVIEWS = 5  # denoising steps between previews
_SECONDS = 0.1  # between two updates of the page while text is written

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """Values of the page's controls.

    Attributes:
        run: name of the run.
        modalities: media that the reply contains; ``None``: the model decides.
        seed: seed of sampling and noise.
        temperature: sampling temperature.
        max_new_tokens: maximum number of tokens.
        guidance: guidance scale; ``None``: each decoder's own.
        steps: number of denoising steps; ``None``: each decoder's own.
        recorded: whether the pane for researchers is open.

    """

    run: str
    modalities: list[str] | None = None
    seed: int = 0
    temperature: float = 0.0
    max_new_tokens: int = 160
    guidance: float | None = None
    steps: int | None = None
    recorded: bool = False

    def options(self, chat: AnyToAny) -> dict[str, Any]:
        """The options of :meth:`AnyToAny.stream_recorded`."""
        given = {"guidance_scale": self.guidance, "num_inference_steps": self.steps}
        sampling = {name: value for name, value in given.items() if value is not None}
        return {
            "modalities": self.modalities,
            "seed": self.seed,
            "temperature": self.temperature,
            "max_new_tokens": self.max_new_tokens,
            "alternatives": ALTERNATIVES if self.recorded else 0,
            **({modality.value: sampling for modality in chat.network.embedded} if sampling else {}),
        }


def reply(session: Session, models: Models, limits: Limits, settings: Settings) -> Iterator[Loaded | None]:
    """Answer the message that the session was asked; the session changes before each item that is yielded.

    A reply that is stopped is kept as far as it has come. A message that ends in an error is shown, but is no part of
    the conversation.

    Yields:
        The loaded run; ``None`` before it is loaded.

    """
    assert session.asked is not None
    loaded: Loaded | None = None
    content = session.shown[-1]["content"]
    content.clear()
    try:
        turn = {"role": "user", "content": content_of(*session.asked, limits)}
        if not models.is_loaded(settings.run):
            session.show(text_item(f"loading {settings.run} ..."))
            yield None
            content.clear()
        loaded = models.get(settings.run)
        kept = list(loaded.chat.within_context([*session.messages, turn], settings.max_new_tokens))
        if dropped := len(session.messages) + 1 - len(kept):
            session.show(text_item(f"note: {dropped_note(dropped)}"))
        parts: list[ReplyPart] = []

        def stop() -> bool:
            return session.stop.is_set() or models.closed.is_set()

        for _ in _stream(session, loaded.chat, kept, settings, stop, parts):
            yield loaded
        if whole := joined(parts):
            session.messages = [*kept, {"role": "assistant", "content": whole}]
        if stop():
            session.show(text_item("(stopped)"))
        elif not whole:
            session.show(text_item("(an empty reply)"))
    except UserError as error:
        session.show(text_item(f"error: {error}"))
    except Exception as error:  # such as a lack of memory
        log.exception("the reply failed")
        session.show(text_item(f"error: {type(error).__name__}; the terminal of the demo has its traceback"))
    finally:
        session.busy = False
    yield loaded


def _stream(
    session: Session, chat: AnyToAny, messages: list[Any], settings: Settings, stop: Stop, parts: list[ReplyPart]
) -> Iterator[None]:
    """Generate a reply into the session and into ``parts``; yields when the page should be updated."""
    options = settings.options(chat)
    updated, written, preview = 0.0, "", False
    for item in chat.stream_recorded(messages, stop=stop, previews=_PREVIEWS, **options):
        if not isinstance(item, ReplyPart):
            session.records.append(item)
        elif item.type == "text":
            session.show(text_item(written + (item.text or "")), replace=bool(written))
            written += item.text or ""
            parts.append(item)
        else:
            session.show(session.saved(item), replace=preview)
            about = [str(text) for text in (item.caption, item.origin) if text and item.step is None]
            for text in about:
                session.show(text_item(text))
            written, preview = "", item.step is not None
            updated = 0.0
            parts += [] if preview else [item]
        if time.monotonic() - updated >= _SECONDS:
            updated = time.monotonic()
            yield
    if preview:  # of a medium that was stopped
        session.shown[-1]["content"].pop()
