"""Token ids of a rendered chat template, tokenised as one string with marks in the place of media.

Pieces are never tokenised separately: tokenizers add a space in front of each text (SentencePiece) or merge across the
border of two pieces, so the ids of the pieces would differ from those of the joined text. The token position of a piece
is found by tokenising the text before it.
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

# private-use characters: in no tokenizer's vocabulary and in no ordinary text; a chat template copies them like text
OPEN, CLOSE, MEDIUM = "\ue000", "\ue001", "\ue002"
# Unicode noncharacters; they replace the template's special tokens if a message also spells special tokens
_STAND_INS, _NO = tuple(chr(code) for code in range(0xFDD0, 0xFDEF)), "\ufdef"
_NO_TEXT = re.compile(f"[{OPEN}{CLOSE}{MEDIUM}{_STAND_INS[0]}-{_NO}]")


def without_marks(text: str) -> str:
    """A message's text without the characters that are used as marks here."""
    return _NO_TEXT.sub("", text)


def check_text(text: str, where: str) -> None:
    """Refuse a text with a lone surrogate, which JSON may contain and no tokenizer accepts.

    Raises:
        UserError: the text has a lone surrogate; the message names ``where`` and the first one's position.

    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        half = text[error.start].encode("unicode_escape").decode()
        raise UserError(f"{where}: the text has half of a character, {half}, at position {error.start}") from error


@dataclass(frozen=True)
class Piece:
    """A part of a rendered template.

    Attributes:
        text: text, or :data:`MEDIUM` in the place of a medium.
        typed: whether it is a message's text, in which special tokens are plain text.

    """

    text: str
    typed: bool = False


class TemplateTokens:
    """Tokenises rendered templates with a fast or slow tokenizer of transformers.

    Args:
        tokenizer: a tokenizer; it is copied, and :data:`MEDIUM` is added to the copy.

    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = copy.deepcopy(tokenizer)
        self._special = {t.content: t for t in tokenizer.added_tokens_decoder.values() if t.special}
        for text in tokenizer.all_special_tokens:
            self._special.setdefault(text, AddedToken(text, special=True, normalized=False))
        self._stand_ins: dict[str, str] = {}
        self._unlearned = False
        self._special_ids: dict[int, int] = {}  # stand-in's id -> special token's id
        self.medium_id = self._add(AddedToken(MEDIUM, normalized=False))

    def _add(self, token: AddedToken) -> int:
        self._tokenizer.add_tokens([token])
        return int(self._tokenizer.convert_tokens_to_ids(token.content))

    @cached_property
    def _specials(self) -> re.Pattern[str]:
        longest_first = sorted(self._special, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def __call__(self, pieces: Sequence[Piece], cuts: Sequence[int] = ()) -> tuple[list[int], list[int]]:
        """Token ids of the joined pieces, and the token positions of some pieces.

        Args:
            pieces: the pieces of one rendered template, in order.
            cuts: indices of pieces; ``len(pieces)`` is the end.

        Returns:
            The ids, with :attr:`medium_id` for each medium, and for each cut the number of leading ids that belong to
            the pieces before it. A token that spans the cut is not counted.

        """
        spelled = self._spells_special(pieces)
        if spelled:
            self._unlearn_special()
        texts = [self._stand_in(p.text) if spelled and not p.typed else p.text for p in pieces]
        joined, *prefixes = self._tokenise(["".join(texts[:count]) for count in (len(texts), *cuts)], plain=spelled)
        return [self._special_ids.get(i, i) for i in joined], [_shared(joined, ids) for ids in prefixes]

    def _spells_special(self, pieces: Sequence[Piece]) -> bool:
        """Whether a message's text contains a special token, or forms one together with the text next to it."""
        in_template = sum(len(self._specials.findall(p.text)) for p in pieces if not p.typed)
        in_text = self._specials.findall("".join(p.text for p in pieces))
        return len(in_text) != in_template or any(p.typed and self._specials.search(p.text) for p in pieces)

    def _unlearn_special(self) -> None:
        """Rename special tokens in a Unigram model's vocabulary, so that it never chooses one for plain text."""
        if self._unlearned or not self._tokenizer.is_fast:
            return
        self._unlearned = True
        backend = self._tokenizer.backend_tokenizer
        if isinstance(backend.model, models.Unigram):
            model = json.loads(backend.to_str())["model"]
            # scores stay, since the score of unknown characters depends on the lowest one
            vocabulary = [(text if text not in self._special else _NO + text, score) for text, score in model["vocab"]]
            backend.model = models.Unigram(vocabulary, model["unk_id"], model.get("byte_fallback", False))

    def _stand_in(self, text: str) -> str:
        """Replace the template's special tokens by added tokens that are recognised while special tokens are text."""
        for special in self._specials.findall(text):
            if special not in self._stand_ins:
                token, mark = self._special[special], _STAND_INS[len(self._stand_ins)]
                flags = {name: getattr(token, name) for name in ("lstrip", "rstrip", "single_word", "normalized")}
                special_id = int(self._tokenizer.convert_tokens_to_ids(special))
                self._special_ids[self._add(AddedToken(mark, special=False, **flags))] = special_id
                self._stand_ins[special] = mark
        return self._specials.sub(lambda match: self._stand_ins[match.group()], text)

    def _tokenise(self, texts: list[str], *, plain: bool) -> list[list[int]]:
        """Token ids of each text; ``plain``: special tokens in it are plain text."""
        options = {"add_special_tokens": False, "split_special_tokens": plain, "verbose": False}
        if not plain or self._tokenizer.is_fast:
            token_ids: list[list[int]] = self._tokenizer(texts, **options).input_ids
            return token_ids
        # with split_special_tokens slow tokenizers ignore all added tokens, so the text is split at them here; slow
        # tokenizers always tokenise the text between two added tokens separately
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
    """Length of the longest common prefix of two sequences of ids."""
    return next((n for n, (i, other) in enumerate(zip(ids, others)) if i != other), min(len(ids), len(others)))  # noqa: B905
