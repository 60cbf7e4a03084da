"""Evaluation in two steps: a model writes predictions into a folder; scores are computed from the folder alone."""

from nextgpt_pl.evaluation.layouts import AudioCaps, CaptionManifest, CocoCaptions, MsrVtt
from nextgpt_pl.evaluation.scores import (
    CaptionQuality,
    Frechet,
    Inception,
    JudgedRight,
    Kernel,
    MelCepstral,
    MeteorQuality,
    Similarity,
    SpiceQuality,
    VqaAccuracy,
)
from nextgpt_pl.evaluation.tasks import Captioning, Editing, Generating, PocketRoute, QuestionAnswering, Task

__all__ = [
    "AudioCaps",
    "CaptionManifest",
    "CaptionQuality",
    "Captioning",
    "CocoCaptions",
    "Editing",
    "Frechet",
    "Generating",
    "Inception",
    "JudgedRight",
    "Kernel",
    "MelCepstral",
    "MeteorQuality",
    "MsrVtt",
    "PocketRoute",
    "QuestionAnswering",
    "Similarity",
    "SpiceQuality",
    "Task",
    "VqaAccuracy",
]
