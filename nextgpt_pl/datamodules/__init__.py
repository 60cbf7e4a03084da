"""Data: readers of files, and the LightningDataModules over them."""

from nextgpt_pl.datamodules.captioned_pairs import CaptionedPairs
from nextgpt_pl.datamodules.readers import CaptionFolder, OfficialJSON, PocketWorld, Reader

__all__ = ["CaptionFolder", "CaptionedPairs", "OfficialJSON", "PocketWorld", "Reader"]
