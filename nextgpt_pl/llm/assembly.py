"""Changes to a model of the transformers library: extra vocabulary rows, rows of the signal tokens, frozen layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from nextgpt_pl.errors import UserError
from nextgpt_pl.llm.signal_rows import ExtendedEmbedding, ExtendedHead, initial_rows


def add_vocabulary_rows(model: Any, count: int) -> None:
    """Append ``count`` rows near the mean of the existing ones to embedding and head."""
    if not count:
        return
    model.resize_token_embeddings(model.get_input_embeddings().num_embeddings + count, mean_resizing=False)
    with torch.no_grad():
        for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
            layer.weight[-count:] = initial_rows(layer.weight[:-count], count).to(layer.weight.dtype)


def check_rows(model: Any, path: str, expected: int) -> None:
    """Check the number of rows of a model's embedding.

    Raises:
        UserError: it is not that of the configuration; the message names ``path``.

    """
    rows = model.get_input_embeddings().num_embeddings
    if rows != expected:
        raise UserError(f"llm.path={path!r}: {rows} embedding rows, but its config says {expected}")


def signal_layers(model: Any, count: int) -> tuple[ExtendedEmbedding, ExtendedHead]:
    """Embedding and head of the model with ``count`` trainable rows.

    Call it before the model's embedding is replaced: a tied head shares the frozen matrix, but never the new rows.
    """
    base = model.get_output_embeddings()
    assert isinstance(base, nn.Linear)
    head = ExtendedHead(base, count)
    return ExtendedEmbedding(model.get_input_embeddings(), count), head


def freeze_around(model: Any, embedding: ExtendedEmbedding, head: ExtendedHead) -> Any:
    """Freeze the model, and set its embedding and head, whose rows are trainable."""
    model.requires_grad_(False)
    model.set_input_embeddings(embedding)
    model.set_output_embeddings(head)
    model.config.vocab_size = embedding.num_embeddings
    model.config.tie_word_embeddings = False
    return model.eval()


def recompute_activations(model: Any) -> None:
    """Recompute the layers' activations in the backward pass (gradient checkpointing)."""
    # the name before transformers 5.24 is deprecated
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def decoder_layers(model: Any, path: str) -> list[nn.Module]:
    """The decoder layers: the modules that the architecture declares as not to be split.

    Raises:
        UserError: the architecture declares none; the message names ``path``.

    """
    names = set(model._no_split_modules or ())
    layers = [module for module in model.modules() if type(module).__name__ in names]
    if not layers:
        raise UserError(f"llm.path={path!r}: {type(model).__name__} does not declare its layers (_no_split_modules)")
    return layers


def layers_train(model: Any) -> bool:
    """Whether any parameter except the signal tokens' rows is trainable, such as LoRA's."""
    rows = {id(model.get_input_embeddings().rows), id(model.get_output_embeddings().rows)}
    return any(p.requires_grad and id(p) not in rows for p in model.parameters())
