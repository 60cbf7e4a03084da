"""Entry point of the group ``lmms_eval.models``, which lmms-eval loads at its start."""

from __future__ import annotations

from typing import Any


def manifest() -> Any:
    """The ``ModelManifest`` that registers the model ``nextgpt_pl``; neither torch nor the model is imported."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest("nextgpt_pl", chat_class_path="nextgpt_pl.harness.lmms_model.NextGptPl")
