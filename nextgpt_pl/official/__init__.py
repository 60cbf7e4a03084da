"""Checkpoints of the official NExT-GPT code, both formats: import and export."""
