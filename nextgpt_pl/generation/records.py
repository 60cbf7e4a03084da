"""Records of a generation: what the LLM predicted at each token, and the caption embedding of each medium."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nextgpt_pl.modality import MODALITIES, Modality
from nextgpt_pl.model import NextGPT


@dataclass(frozen=True)
class Choice:
    """What the LLM predicted at one place.

    Attributes:
        probability: the LLM's own probability of the chosen token, at temperature 1 and without constraints.
        constrained: its probability in the distribution that it was chosen from: after the constraints on signal
            tokens, temperature and ``top_p``.
        alternatives: ids and own probabilities of the most probable tokens, in descending order.

    """

    probability: float
    constrained: float
    alternatives: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class TokenRecord:
    """A token of a reply.

    Attributes:
        text: the decoded token; of a signal token its name, such as ``[IMG0]``.
        modality: medium of a signal token; ``None``: another token.
        opens: whether it is the first signal token of its modality.
        choice: what the LLM predicted; ``None``: the token was added to complete a reply that was cut off.
        alternatives: texts and probabilities of the most probable tokens, in descending order.

    """

    text: str
    modality: Modality | None = None
    opens: bool = False
    choice: Choice | None = None
    alternatives: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class SpanRecord:
    """A medium that is to be drawn.

    Attributes:
        modality: modality of the medium.
        embedding: caption embedding, ``(L, D)`` or ``(D,)``, that the decoder receives; ``None``: it takes words.

    """

    modality: Modality
    embedding: Tensor | None


Record = TokenRecord | SpanRecord


def choice_of(logits: Tensor, scores: Tensor, token: int, count: int) -> Choice:
    """The prediction at one place; one host synchronisation.

    Args:
        logits: ``(V,)`` of the LLM.
        scores: ``(V,)`` logits that the token was chosen from.
        token: the chosen token.
        count: number of alternatives, at most V.

    """
    own = logits.double().softmax(-1)
    best = own.topk(min(count, len(own)))
    # float64 represents every token id
    chosen = torch.stack([own[token], scores.double().softmax(-1)[token]])
    row = torch.cat([chosen, best.values, best.indices.double()]).tolist()
    number = len(best.values)
    alternatives = zip(map(int, row[2 + number :]), row[2 : 2 + number], strict=True)
    return Choice(row[0], row[1], tuple(alternatives))


def token_records(network: NextGPT, ids: Sequence[int], choice: Choice | None = None) -> list[TokenRecord]:
    """The records of tokens with one choice, or of added ones."""
    return [_record(network, token, choice) for token in ids]


def _record(network: NextGPT, token: int, choice: Choice | None) -> TokenRecord:
    text, modality, opens = _named(network, token)
    alternatives = () if choice is None else tuple((_named(network, i)[0], p) for i, p in choice.alternatives)
    return TokenRecord(text, modality, opens, choice, alternatives)


def _named(network: NextGPT, token: int) -> tuple[str, Modality | None, bool]:
    """Text of a token, modality of a signal token, and whether it is the first one of its modality."""
    for modality, ids in network.signal_ids().items():
        if token in ids:
            place = ids.index(token)
            return MODALITIES[modality].signal_tokens(len(ids))[place], modality, place == 0
    return network.llm.tokenizer.decode([token]), None, False
