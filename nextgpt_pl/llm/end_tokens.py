"""The tokens that end an assistant's turn."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedTokenizerBase

from nextgpt_pl.dialogue.marked_template import text_after_reply
from nextgpt_pl.errors import UserError


def end_tokens(tokenizer: PreTrainedTokenizerBase, generation_config: Any, rows: int) -> tuple[int, ...]:
    """Ids of the tokens that end a turn, ascending.

    They are those of the generation configuration, the tokenizer's end token, and the special token that the chat
    template writes after a reply. The model learns to write the last one, which some folders name nowhere else.

    Args:
        tokenizer: with its chat template.
        generation_config: of the model; ``None``: it has none.
        rows: number of rows of the embedding; signal tokens have the ids behind them.

    Raises:
        UserError: an end token has no row.

    """
    configured = getattr(generation_config, "eos_token_id", None)
    ids = [*(configured if isinstance(configured, list) else [configured]), tokenizer.eos_token_id]
    after = tokenizer(text_after_reply(tokenizer).lstrip(), add_special_tokens=False).input_ids
    if after and after[0] in tokenizer.added_tokens_decoder:
        ids.append(after[0])
    found = tuple(sorted({int(i) for i in ids if i is not None}))
    if found and found[-1] >= rows:
        raise UserError(
            f"generation_config.json: eos_token_id={configured!r} has {found[-1]}, but the LLM's ids are 0 to"
            f" {rows - 1}"
        )
    return found
