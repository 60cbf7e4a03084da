"""Building data sets of dialogues with media, such as MosIT: an LLM writes them, media are retrieved or drawn."""

from nextgpt_pl.building.build import Build
from nextgpt_pl.building.checks import MediaCheck, PocketJudge, Similarity
from nextgpt_pl.building.duplicates import NearDuplicates
from nextgpt_pl.building.endpoint import Endpoint
from nextgpt_pl.building.media import Draw, MediaSource, Retrieve
from nextgpt_pl.building.plans import Prompts, Template

__all__ = [
    "Build",
    "Draw",
    "Endpoint",
    "MediaCheck",
    "MediaSource",
    "NearDuplicates",
    "PocketJudge",
    "Prompts",
    "Retrieve",
    "Similarity",
    "Template",
]
