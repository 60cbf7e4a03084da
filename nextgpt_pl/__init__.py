"""PyTorch Lightning framework for NExT-GPT, the any-to-any multimodal LLM.

Importing the package is cheap: torch is loaded only by the modules that use it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nextgpt_pl.utils.quiet import quieten_bitsandbytes

if TYPE_CHECKING:
    from nextgpt_pl.pipeline import AnyToAny

__version__ = "0.1.0"
__all__ = ["AnyToAny", "__version__"]

quieten_bitsandbytes()


def __getattr__(name: str) -> Any:
    if name == "AnyToAny":
        from nextgpt_pl.pipeline import AnyToAny

        return AnyToAny
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
