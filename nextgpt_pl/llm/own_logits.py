"""Logits of hidden states as a model of the transformers library computes them from its head's output.

Several families scale or soft-cap that output. The model's own ``forward`` runs here without its transformer, so no
list of families is needed.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor


def own_logits(model: Any, hidden: Tensor) -> Tensor:
    """Logits ``(N, V)`` of final hidden states ``(N, H)``.

    Args:
        model: a causal LM.
        hidden: states after the final norm.

    """
    logits: Tensor = type(model).forward(_WithoutTransformer(model, hidden), inputs_embeds=hidden[None]).logits
    return logits[0]


class _WithoutTransformer:
    """A causal LM whose transformer returns given states; all other attributes are the model's."""

    def __init__(self, model: Any, hidden: Tensor) -> None:
        self._model, self._output = model, _Output(hidden[None])

    def __getattr__(self, name: str) -> Any:
        return self._transformer if name == self._model.base_model_prefix else getattr(self._model, name)

    def _transformer(self, *_: Any, **__: Any) -> _Output:
        return self._output


class _Output:
    """Output of a transformer with the last hidden states only; all other fields are ``None``."""

    def __init__(self, last_hidden_state: Tensor) -> None:
        self.last_hidden_state = last_hidden_state

    def __getitem__(self, index: int | slice) -> Any:
        return (self.last_hidden_state,)[index]

    def __getattr__(self, _name: str) -> None:
        return None
