"""What frozen parts compute, kept under keys made of who computed it and from what."""

from nextgpt_pl.features.cache import FeatureCache
from nextgpt_pl.features.store import FeatureStore, Memory, Store

__all__ = ["FeatureCache", "FeatureStore", "Memory", "Store"]
