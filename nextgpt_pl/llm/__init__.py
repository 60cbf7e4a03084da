"""The language model between the projections."""

from nextgpt_pl.llm.causal_lm import CausalLM
from nextgpt_pl.llm.lora import LoRA

__all__ = ["CausalLM", "LoRA"]
