"""The frozen language model with trainable signal-token rows."""

from nextgpt_pl.llm.causal_lm import CausalLM
from nextgpt_pl.llm.lora import LoRA

__all__ = ["CausalLM", "LoRA"]
