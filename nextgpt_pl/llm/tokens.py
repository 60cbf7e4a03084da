"""The LLM's tokenizer with the chat template and the extra tokens of the YAML."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from nextgpt_pl.errors import UserError
from nextgpt_pl.llm.pretrained import Pretrained

_FEW = 8  # tokens without rows that a message lists


def prepared_tokenizer(
    pretrained: Pretrained, chat_template: str | None, extra_tokens: Sequence[str], first_id: int
) -> PreTrainedTokenizerBase:
    """Read the tokenizer, set its chat template and padding token, and add tokens.

    Args:
        pretrained: where it is read from.
        chat_template: Jinja template instead of the published one.
        extra_tokens: tokens to add.
        first_id: id that the first of them must get, which is the row of its embedding.

    Raises:
        UserError: there is no chat template, the tokenizer cannot be read, added tokens get other ids, or a token has
            an id behind the rows, where the signal tokens have theirs.

    """
    tokenizer = pretrained.tokenizer()
    if chat_template:
        tokenizer.chat_template = chat_template
    if not tokenizer.chat_template:
        raise UserError(f"llm.path={pretrained.path!r} has no chat template: set llm.chat_template in the YAML")
    if tokenizer.pad_token_id is None:
        # padding is never read, so any token will do
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.bos_token or tokenizer.convert_ids_to_tokens(0)
    tokenizer.add_tokens(list(extra_tokens))
    ids = tokenizer.convert_tokens_to_ids(list(extra_tokens))
    rows = list(range(first_id, first_id + len(ids)))
    if ids != rows:
        unused = first_id - min(ids)
        why = f"; the embedding has {unused} rows that the tokenizer does not use" if unused > 0 else ""
        raise UserError(f"llm.extra_tokens={list(extra_tokens)} get the ids {ids}, but their rows are {rows}{why}")
    _check_ids(tokenizer, pretrained.path, first_id, first_id + len(rows))
    return tokenizer


def _check_ids(tokenizer: PreTrainedTokenizerBase, path: str, own: int, rows: int) -> None:
    """Check that no token has an id from ``rows`` on; the first ``own`` rows are those of the file."""
    added = sorted((i, token) for token, i in tokenizer.get_vocab().items() if i >= own)
    if not added or added[-1][0] < rows:
        return
    token_id, token = added[-1]
    names = [name for _, name in added]
    belongs = len(names) > _FEW
    advice = "use the tokenizer that belongs to the weights" if belongs else f"set llm.extra_tokens={names}"
    raise UserError(
        f"llm.path={path!r}: the tokenizer gives {token!r} the id {token_id}, but the embedding has the rows 0 to "
        f"{rows - 1}, and the signal tokens follow; {advice}"
    )
