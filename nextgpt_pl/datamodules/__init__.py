"""Data: sources of captioned pairs and dialogues, and the LightningDataModules over them."""

from nextgpt_pl.datamodules.captioned_pairs import CaptionedPairs
from nextgpt_pl.datamodules.data_files import DataFiles
from nextgpt_pl.datamodules.dialogue_sources import Alpaca, LLaVA, OfficialDialogues, PocketDialogues, VideoChat
from nextgpt_pl.datamodules.dialogues import Dialogues
from nextgpt_pl.datamodules.pair_sources import CaptionFolder, OfficialJSON, PocketWorld
from nextgpt_pl.datamodules.sources import Source
from nextgpt_pl.datamodules.spoken_source import SpokenRequests
from nextgpt_pl.datamodules.streamed_shards import StreamedShards

__all__ = [
    "Alpaca",
    "CaptionFolder",
    "CaptionedPairs",
    "DataFiles",
    "Dialogues",
    "LLaVA",
    "OfficialDialogues",
    "OfficialJSON",
    "PocketDialogues",
    "PocketWorld",
    "Source",
    "SpokenRequests",
    "StreamedShards",
    "VideoChat",
]
