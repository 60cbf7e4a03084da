"""The spelling loss of encoder alignment, for input projections to mixtures of the LLM's word embeddings."""

from __future__ import annotations

import torch
from torch import Tensor

from nextgpt_pl.batches import Batch
from nextgpt_pl.errors import UserError
from nextgpt_pl.losses import spelling_loss
from nextgpt_pl.model import NextGPT
from nextgpt_pl.projections import WordInputProjection
from nextgpt_pl.utils.distributed import zero_gradients


def check_words(network: NextGPT) -> None:
    """Check that all input projections of a loaded network are to words.

    Raises:
        UserError: one is not a :class:`WordInputProjection`.

    """
    for projection in network.input_projections.values():
        if not isinstance(projection, WordInputProjection):
            raise UserError(
                f"network.input_projection: {type(projection).__name__} knows no words; set model.word_steps=0 and "
                "model.word_weight=0, or use WordInputProjection"
            )


def spelling(network: NextGPT, batch: Batch) -> tuple[Tensor, int, int]:
    """Spelling loss of a batch's media tokens and labels, without a forward pass of the LLM.

    Returns:
        The sum of the loss over words, the number of words beyond the number of tokens, and the number of all words;
        each of this rank's batch.

    """
    device = batch.labels.device
    total = torch.zeros((), device=device)
    labels, special = batch.on_host().labels, torch.tensor(network.llm.tokenizer.all_special_ids)
    words = cut = 0
    for modality, (slots, features) in network.features(batch).items():
        projection = network.input_projection(modality)
        assert isinstance(projection, WordInputProjection)
        captions = [_words(labels[row], len(projection.words), special) for row, _ in slots]
        log_probs = projection.word_log_probs(features)
        # of a projection that is used, parameters that this loss does not reach, such as the offset, get zeros
        total = total + spelling_loss(log_probs, captions, 1.0) + zero_gradients(projection.parameters(), total)
        words += sum(len(caption) for caption in captions)
        cut += sum(max(0, len(caption.unique_consecutive()) - log_probs.shape[1]) for caption in captions)
    return total, cut, words


def _words(labels: Tensor, vocabulary: int, special: Tensor) -> Tensor:
    """The labels of a row that are words of the LLM, without special tokens."""
    return labels[(labels >= 0) & (labels < vocabulary) & ~torch.isin(labels, special)]
