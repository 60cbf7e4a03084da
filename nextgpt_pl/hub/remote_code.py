"""The classes of this folder for transformers: those of the installed package nextgpt_pl."""

try:
    from nextgpt_pl.hub import NextGPTConfig, NextGPTModel, NextGPTPipeline, NextGPTProcessor
except ImportError as error:
    raise ImportError(
        f"this model needs the package nextgpt_pl ({error}): run `pip install -e .` in a clone of its repository"
    ) from error

__all__ = ["NextGPTConfig", "NextGPTModel", "NextGPTPipeline", "NextGPTProcessor"]
