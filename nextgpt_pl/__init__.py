"""PyTorch Lightning framework for NExT-GPT, the any-to-any multimodal LLM.

Importing the package is cheap: torch is loaded only by the modules that use it.
"""

__version__ = "0.1.0"
