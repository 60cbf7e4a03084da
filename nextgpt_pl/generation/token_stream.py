"""Generation of one reply token by token, under the control of its consumer.

transformers prepares the constraints and the sampling; the loop is a generator here, so that the consumer can do other
work between two tokens, or stop.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessorList

from nextgpt_pl.generation.decoding import Decoding
from nextgpt_pl.generation.generate import Prepared
from nextgpt_pl.generation.records import Choice, choice_of
from nextgpt_pl.llm import CausalLM
from nextgpt_pl.llm.recording import recorded
from nextgpt_pl.utils.transfer import upload


def tokens(
    llm: CausalLM, prepared: Prepared, decoding: Decoding, alternatives: int = 0
) -> Iterator[tuple[int, Tensor, Choice | None]]:
    """Yield each token of the reply to one prompt, end token included; one host synchronisation per pass of the LLM.

    The tokens are those of :func:`~nextgpt_pl.generation.generate.generate`. Tokens that the constraints force, such as
    the rest of a signal span, are read in one pass. Random numbers are drawn from a generator of their own.

    Args:
        llm: the language model.
        prepared: of one prompt.
        decoding: decoding options.
        alternatives: number of alternatives of each choice; 0: choices are not computed. They take one more host
            synchronisation per token.

    Yields:
        The token, the final hidden state ``(H,)`` of the token before it, and the choice.

    """
    device = prepared.embeddings.device
    processors = prepared.generate(
        inputs_embeds=prepared.embeddings,
        attention_mask=prepared.mask,
        max_new_tokens=prepared.limit,
        logits_processor=LogitsProcessorList([prepared.rules]),
        custom_generate=_processors,
    )
    random = torch.Generator(device).manual_seed(decoding.seed)
    inputs: dict[str, Any] = {"inputs_embeds": prepared.embeddings}
    ids: list[int] = []
    forced: list[int] = []
    while True:
        logits, states, inputs = _pass(llm, inputs, 1 + len(forced))
        for token, state, own in zip(forced, states, logits, strict=False):
            place = upload(torch.tensor([[token]]), device)
            yield token, state, choice_of(own[None], _only(token, own), place, alternatives) if alternatives else None
        if len(ids) == prepared.limit:
            return
        last = logits[-1:]
        scores = processors(upload(torch.tensor([ids], dtype=torch.long), device), last)
        if decoding.temperature > 0:
            chosen = torch.multinomial(scores.softmax(-1), 1, generator=random)
        else:
            chosen = scores.argmax(-1, keepdim=True)
        choice = choice_of(last, scores, chosen, alternatives) if alternatives else None
        ids.append(int(chosen))
        yield ids[-1], states[-1], choice
        if len(ids) == prepared.limit:
            return
        forced = prepared.rules.forced(ids)[: prepared.limit - len(ids)]
        inputs["input_ids"] = upload(torch.tensor([[ids[-1], *forced]]), device)
        ids += forced


@torch.no_grad()
def _pass(llm: CausalLM, inputs: dict[str, Any], count: int) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Logits ``(count, V)`` and states ``(count, H)`` of the last positions, and the cache for the next pass."""
    model = llm.model
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        inputs = {**inputs, "logits_to_keep": count}
    with recorded(model.base_model, count) as states:
        out = model(**inputs, use_cache=True, return_dict=True)
    # the name differs between versions of transformers
    name = "cache" if "cache" in out else "past_key_values"
    return out.logits[0, -count:].float(), states[-1][0], {name: out[name]}


def _only(token: int, like: Tensor) -> Tensor:
    """Scores ``(1, V)`` of which one token has all probability."""
    scores = torch.full_like(like, -torch.inf)
    scores[token] = 0.0
    return scores[None]


def _processors(
    _model: Any, _input_ids: Tensor, logits_processor: LogitsProcessorList, **_: Any
) -> LogitsProcessorList:
    """In the place of transformers' loop: the prepared processors, sampling included."""
    return logits_processor
