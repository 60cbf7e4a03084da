"""Features of frozen parts, stored under keys of their producer and their input."""

from nextgpt_pl.features.cache import FeatureCache
from nextgpt_pl.features.disk import FeatureStore
from nextgpt_pl.features.preparation import Preparation
from nextgpt_pl.features.store import Memory, Store

__all__ = ["FeatureCache", "FeatureStore", "Memory", "Preparation", "Store"]
