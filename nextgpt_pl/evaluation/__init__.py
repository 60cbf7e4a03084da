"""Evaluation in two steps: a model writes predictions to a folder; scores are computed from the folder only."""

from nextgpt_pl.evaluation.data_sets import AudioCaps, CaptionManifest, CocoCaptions, MsrVtt
from nextgpt_pl.evaluation.data_tasks import Captioning, Editing, Generating, QuestionAnswering
from nextgpt_pl.evaluation.feature_scores import Frechet, Inception, Kernel, Similarity
from nextgpt_pl.evaluation.judged import JudgedRight, MalformedSpans
from nextgpt_pl.evaluation.pocket import PocketCaptions, PocketDecoder, PocketReplies, PocketRoute
from nextgpt_pl.evaluation.scores import (
    CaptionQuality,
    MelCepstral,
    MeteorQuality,
    SpiceQuality,
    VqaAccuracy,
)
from nextgpt_pl.evaluation.speech import ReadAloud, WordErrors
from nextgpt_pl.evaluation.spoken import SpokenImages
from nextgpt_pl.evaluation.tasks import Task

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
    "MalformedSpans",
    "MelCepstral",
    "MeteorQuality",
    "MsrVtt",
    "PocketCaptions",
    "PocketDecoder",
    "PocketReplies",
    "PocketRoute",
    "QuestionAnswering",
    "ReadAloud",
    "Similarity",
    "SpiceQuality",
    "SpokenImages",
    "Task",
    "VqaAccuracy",
    "WordErrors",
]
