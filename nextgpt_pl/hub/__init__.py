"""Classes for transformers' ``AutoModel``, ``AutoProcessor`` and ``pipeline`` on a folder that ``push`` has written."""

from nextgpt_pl.hub.configuration import NextGPTConfig
from nextgpt_pl.hub.model import NextGPTModel
from nextgpt_pl.hub.pipeline import NextGPTPipeline
from nextgpt_pl.hub.processor import NextGPTProcessor

__all__ = ["NextGPTConfig", "NextGPTModel", "NextGPTPipeline", "NextGPTProcessor"]
