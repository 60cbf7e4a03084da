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


def tokens(
    llm: CausalLM, prepared: Prepared, decoding: Decoding, alternatives: int = 0
) -> Iterator[tuple[int, Tensor, Choice | None]]:
    """Yield each token of the reply to one prompt, end token included; one host synchronisation per token.

    The tokens are those of :func:`~nextgpt_pl.generation.generate.generate`. Random numbers are drawn from a generator
    of their own.

    Args:
        llm: the language model.
        prepared: of one prompt.
        decoding: decoding options.
        alternatives: number of alternatives of each choice; 0: choices are not computed. They take one more host
            synchronisation per token.

    Yields:
        The token, the final hidden state ``(H,)`` of the token before it, and the choice.

    """
    model, device = llm.model, prepared.embeddings.device
    processors = prepared.generate(
        inputs_embeds=prepared.embeddings,
        attention_mask=prepared.mask,
        max_new_tokens=prepared.limit,
        logits_processor=LogitsProcessorList([prepared.rules]),
        custom_generate=_processors,
    )
    random = torch.Generator(device).manual_seed(decoding.seed)
    inputs: dict[str, Any] = {"inputs_embeds": prepared.embeddings}
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        inputs["logits_to_keep"] = 1
    ids = torch.empty(1, 0, dtype=torch.long, device=device)
    for _ in range(prepared.limit):
        with torch.no_grad(), recorded(model.base_model) as states:
            out = model(**inputs, use_cache=True, return_dict=True)
            logits = out.logits[:, -1].float()
            scores = processors(ids, logits)
            if decoding.temperature > 0:
                token = torch.multinomial(scores.softmax(-1), 1, generator=random)
            else:
                token = scores.argmax(-1, keepdim=True)
            choice = choice_of(logits, scores, token, alternatives) if alternatives else None
        ids = torch.cat([ids, token], 1)
        # the name differs between versions of transformers
        name = "cache" if "cache" in out else "past_key_values"
        inputs = {"input_ids": token, name: out[name]}
        yield int(token), states[-1][0], choice


def _processors(
    _model: Any, _input_ids: Tensor, logits_processor: LogitsProcessorList, **_: Any
) -> LogitsProcessorList:
    """In the place of transformers' loop: the prepared processors, sampling included."""
    return logits_processor
