"""Experiments as YAML content, with the tiny models."""

from pathlib import Path
from typing import Any


def made(path: str, /, **arguments: Any) -> dict[str, Any]:
    """An instance of a class of the package."""
    return {"class_path": f"nextgpt_pl.{path}", "init_args": arguments}


def encoder_alignment(
    models: Path, *sources: dict[str, Any], batch_size: int = 16, video_clips: int = 1, **stage: Any
) -> dict[str, Any]:
    """Model and data of stage 1 on the sources."""
    network = {
        "llm": made("llm.CausalLM", path=str(models / "llm")),
        "encoder": made(
            "encoders.ImageBindEncoder", weights=str(models / "encoder"), video_clips=video_clips, audio_clips=1
        ),
        "input_projection": made("projections.WordInputProjection", width=16),
    }
    return {
        "model": made("stages.EncoderAlignment", network=made("model.NextGPT", **network), **stage),
        "data": made("datamodules.CaptionedPairs", sources=list(sources), batch_size=batch_size),
    }
