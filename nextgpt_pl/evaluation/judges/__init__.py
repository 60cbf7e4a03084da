"""Judges of replies to benchmarks: exact ones of the pocket world, LLMs behind an endpoint, and CLIP scores."""

from nextgpt_pl.evaluation.judges.base import Inquiry, Judge, Judgement, Scale
from nextgpt_pl.evaluation.judges.clip_judge import ClipJudge
from nextgpt_pl.evaluation.judges.endpoint_judge import EndpointJudge
from nextgpt_pl.evaluation.judges.exact_judge import ExactJudge

__all__ = ["ClipJudge", "EndpointJudge", "ExactJudge", "Inquiry", "Judge", "Judgement", "Scale"]
