"""The state of one visitor: the conversation as the model and as the page have it."""

from __future__ import annotations

import html
import os
import shutil
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nextgpt_pl.generation.records import Record
from nextgpt_pl.media.writing import save
from nextgpt_pl.modality import MODALITIES, Modality
from nextgpt_pl.samples import ReplyPart

Item = dict[str, Any]  # text or file of a message, as Gradio's Chatbot takes it


def text_item(text: str) -> Item:
    """A text in the page, shown literally: Gradio's Chatbot takes texts as HTML, also where it renders no Markdown."""
    return {"type": "text", "text": html.escape(text, quote=False)}


def file_item(path: str | Path, words: str) -> Item:
    """A file in the page: an image, or a player for a video or sound."""
    return {"path": str(path), "alt_text": words}


@dataclass
class Session:
    """A conversation.

    Attributes:
        folder: of generated media; deleted by :meth:`close`.
        messages: what the model is given: completed turns.
        shown: messages of the page, including errors and a reply that is being generated.
        asked: text and files of the last message, for another try.
        turns: number of model messages and of shown messages before the last message.
        records: of the last reply.
        stop: ends the reply that is being generated or waits for its turn.
        busy: whether a message waits for its reply, or for its end.

    """

    folder: Path
    messages: list[Mapping[str, Any]] = field(default_factory=list)
    shown: list[dict[str, Any]] = field(default_factory=list)
    asked: tuple[str, list[str]] | None = None
    turns: tuple[list[Mapping[str, Any]], int] = field(default_factory=lambda: ([], 0))
    records: list[Record] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    busy: bool = False

    @classmethod
    def begin(cls, folder: Path) -> Session:
        """An empty conversation, with a folder of its own in ``folder``."""
        return cls(Path(tempfile.mkdtemp(prefix="chat", dir=folder)))

    def ask(self, text: str, files: list[str]) -> None:
        """Show a message of the user, and dots for the reply that it waits for."""
        self.stop.clear()
        self.busy = True
        self.asked, self.turns = (text, files), (list(self.messages), len(self.shown))
        self.records = []
        items = [file_item(file, Path(file).name) for file in files]
        items += [text_item(text)] if text.strip() or not files else []
        self.shown += [{"role": "user", "content": items}, {"role": "assistant", "content": [text_item("...")]}]

    def undo(self) -> tuple[str, list[str]] | None:
        """Remove the last message and its reply, and return its text and files; ``None`` if there is no message."""
        asked = self.asked
        if asked is not None:
            messages, shown = self.turns
            self.messages, self.asked = messages, None
            del self.shown[shown:]
        return asked

    def show(self, item: Item, *, replace: bool = False) -> None:
        """Append to the reply, or replace its last item."""
        content = self.shown[-1]["content"]
        if replace:
            content.pop()
        content.append(item)

    def saved(self, part: ReplyPart) -> Item:
        """A generated medium as a file; of a preview, one image."""
        modality, array = Modality(part.type), part.array
        assert array is not None
        words = f"{part.type} of the reply" if part.step is None else f"{part.type}, step {part.step[0]}/{part.step[1]}"
        if part.step is not None and modality is Modality.VIDEO:
            modality, array = Modality.IMAGE, array[len(array) // 2]
        descriptor, name = tempfile.mkstemp(MODALITIES[modality].sample_suffix, f"{part.type}_", self.folder)
        os.close(descriptor)  # only the name is needed
        save(array, modality, Path(name), part.rate)
        return file_item(name, f"{words}: {part.caption}" if part.caption else words)

    def close(self) -> None:
        """End a reply that is being generated, and delete the generated media."""
        self.stop.set()
        shutil.rmtree(self.folder, ignore_errors=True)
