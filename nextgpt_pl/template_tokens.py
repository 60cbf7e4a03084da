"""Token ids of a rendered chat template: one string, tokenised whole, in which marks stand for the media.

A tokenizer that puts a blank in front of each text (SentencePiece), or merges across the border of two texts, gives
other ids to pieces than to the whole. So pieces are never tokenised apart: where a piece begins in the ids is found by
tokenising what stands before it.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tokenizers import AddedToken, models

from nextgpt_pl.errors import UserError

# private-use characters: no tokenizer's vocabulary and no sensible text holds them. A chat template may move them.
OPEN, CLOSE, MEDIUM = "\ue000", "\ue001", "\ue002"
MARKS = re.compile(f"([{OPEN}{CLOSE}{MEDIUM}])")
# stand for the template's special tokens where a message spells some, too: noncharacters, which no text holds
_STAND_INS, _NO = tuple(chr(code) for code in range(0xFDD0, 0xFDEF)), "\ufdef"
_NO_TEXT = re.compile(f"[{OPEN}{CLOSE}{MEDIUM}{_STAND_INS[0]}-{_NO}]")


def without_marks(text: str) -> str:
    """A message's text without the characters that mean something here."""
    return _NO_TEXT.sub("", text)


def check_text(text: str, where: str) -> None:
    """Refuse a text that no tokenizer takes: one with half of a character, which JSON may hold.

    Raises:
        UserError: it has a lone surrogate; names ``where`` and the first one's position.

    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        half = text[error.start].encode("unicode_escape").decode()
        raise UserError(f"{where}: the text has half of a character, {half}, at position {error.start}") from error


@dataclass(frozen=True)
class Piece:
    """A stretch of a rendered template.

    Attributes:
        text: with :data:`MEDIUM` where a medium stands.
        typed: of a message: special tokens in it are plain text.

    """

    text: str
    typed: bool = False


class TemplateTokens:
    """Tokenises rendered templates with any tokenizer of transformers, fast or slow.

    Args:
        tokenizer: is copied; the copy knows :data:`MEDIUM`.

    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = copy.deepcopy(tokenizer)
        self._special = {t.content: t for t in tokenizer.added_tokens_decoder.values() if t.special}
        for text in tokenizer.all_special_tokens:
            self._special.setdefault(text, AddedToken(text, special=True, normalized=False))
        self._stand_ins: dict[str, str] = {}
        self._unlearned = False
        self._meant: dict[int, int] = {}  # id of a stand-in to that of its special token
        self.medium_id = self._add(AddedToken(MEDIUM, normalized=False))

    def _add(self, token: AddedToken) -> int:
        self._tokenizer.add_tokens([token])
        return int(self._tokenizer.convert_tokens_to_ids(token.content))

    @cached_property
    def _specials(self) -> re.Pattern[str]:
        longest_first = sorted(self._special, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def __call__(self, pieces: Sequence[Piece], cuts: Sequence[int] = ()) -> tuple[list[int], list[int]]:
        """Token ids of the pieces as one string, and where some of the pieces begin in them.

        Args:
            pieces: of one rendered template, in order.
            cuts: numbers of pieces; ``len(pieces)`` is the end.

        Returns:
            The ids, :attr:`medium_id` where a medium stands; and for each cut, how many of them are the same without
            the pieces from there on. A token that reaches over the cut is not among them.

        """
        spelled = self._spells_special(pieces)
        if spelled:
            self._unlearn_special()
        texts = [self._stand_in(p.text) if spelled and not p.typed else p.text for p in pieces]
        whole, *before = self._tokenise(["".join(texts[:count]) for count in (len(texts), *cuts)], plain=spelled)
        return [self._meant.get(i, i) for i in whole], [_shared(whole, ids) for ids in before]

    def _spells_special(self, pieces: Sequence[Piece]) -> bool:
        """Whether a message holds the text of a special token, or makes one up together with what stands beside it."""
        meant = sum(len(self._specials.findall(p.text)) for p in pieces if not p.typed)
        found = self._specials.findall("".join(p.text for p in pieces))
        return len(found) != meant or any(p.typed and self._specials.search(p.text) for p in pieces)

    def _unlearn_special(self) -> None:
        """Let a Unigram model, whose vocabulary holds the special tokens, never choose one for text that spells it."""
        if self._unlearned or not self._tokenizer.is_fast:
            return
        self._unlearned = True
        backend = self._tokenizer.backend_tokenizer
        if isinstance(backend.model, models.Unigram):
            model = json.loads(backend.to_str())["model"]
            # another score would change that of unknown characters
            vocabulary = [(text if text not in self._special else _NO + text, score) for text, score in model["vocab"]]
            backend.model = models.Unigram(vocabulary, model["unk_id"], model.get("byte_fallback", False))

    def _stand_in(self, text: str) -> str:
        """The template's special tokens as added tokens that are found where those are read as text."""
        for special in self._specials.findall(text):
            if special not in self._stand_ins:
                token, mark = self._special[special], _STAND_INS[len(self._stand_ins)]
                flags = {name: getattr(token, name) for name in ("lstrip", "rstrip", "single_word", "normalized")}
                meant = int(self._tokenizer.convert_tokens_to_ids(special))
                self._meant[self._add(AddedToken(mark, special=False, **flags))] = meant
                self._stand_ins[special] = mark
        return self._specials.sub(lambda match: self._stand_ins[match.group()], text)

    def _tokenise(self, texts: list[str], *, plain: bool) -> list[list[int]]:
        """``plain``: special tokens are text."""
        options = {"add_special_tokens": False, "split_special_tokens": plain, "verbose": False}
        if not plain or self._tokenizer.is_fast:
            found: list[list[int]] = self._tokenizer(texts, **options).input_ids
            return found
        # slow tokenizers would not look for added tokens either; they tokenise what stands between two apart anyway
        marks = {mark: self._tokenizer.convert_tokens_to_ids(mark) for mark in (MEDIUM, *self._stand_ins.values())}
        split = re.compile(f"([{''.join(marks)}])")
        return [
            [
                token
                for part in filter(None, split.split(text))
                for token in ([marks[part]] if part in marks else self._tokenizer(part, **options).input_ids)
            ]
            for text in texts
        ]


def _shared(ids: Sequence[int], others: Sequence[int]) -> int:
    """How many ids two sequences begin with alike."""
    return next((n for n, (i, other) in enumerate(zip(ids, others)) if i != other), min(len(ids), len(others)))  # noqa: B905
