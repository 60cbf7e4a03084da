"""The language model between the projections."""

from nextgpt_pl.llm.causal_lm import CausalLM, LoRA

__all__ = ["CausalLM", "LoRA"]
