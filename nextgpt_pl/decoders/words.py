"""Interface of decoders that are told words instead of a caption embedding."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from nextgpt_pl.decoders.base import Decoder
from nextgpt_pl.errors import UserError, at_least


class WordsDecoder(Decoder):
    """A decoder that reads the words that the LLM writes between the signal tokens of a span.

    It has no caption embedding: nothing is projected for it, and no loss but that of the text trains its spans.
    Subclasses define :meth:`generate_from_words`.

    Args:
        max_tokens: maximum number of the LLM's tokens between the signal tokens.

    """

    takes_words = True

    def __init__(self, max_tokens: int = 64) -> None:
        at_least(1, max_tokens=max_tokens)
        self.max_tokens = max_tokens

    @property
    def embedding_shape(self) -> tuple[int, ...]:
        """Empty: there is no embedding."""
        return ()

    def embed_captions(self, captions: Sequence[str]) -> Tensor:
        """Not supported.

        Raises:
            UserError: always.

        """
        raise UserError(f"{type(self).__name__} takes words: {captions[0]!r:.60} has no embedding")
