"""The language model between the projections."""

from nextgpt_pl.llm.causal_lm import CausalLM

__all__ = ["CausalLM"]
