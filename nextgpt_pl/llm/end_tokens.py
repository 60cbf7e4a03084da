"""The tokens that end an assistant's turn."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedTokenizerBase

from nextgpt_pl.dialogue.marked_template import text_after_reply


def end_tokens(tokenizer: PreTrainedTokenizerBase, generation_config: Any) -> tuple[int, ...]:
    """Ids of the tokens that end a turn, ascending.

    They are those of the generation configuration, the tokenizer's end token, and the special token that the chat
    template writes after a reply. The model learns to write the last one, which some folders name nowhere else.

    Args:
        tokenizer: with its chat template.
        generation_config: of the model; ``None``: it has none.

    """
    configured = getattr(generation_config, "eos_token_id", None)
    ids = [*(configured if isinstance(configured, list) else [configured]), tokenizer.eos_token_id]
    after = tokenizer(text_after_reply(tokenizer).lstrip(), add_special_tokens=False).input_ids
    if after and after[0] in tokenizer.added_tokens_decoder:
        ids.append(after[0])
    return tuple(sorted({int(i) for i in ids if i is not None}))
