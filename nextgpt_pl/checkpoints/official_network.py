"""The network block of an imported checkpoint's ``config.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nextgpt_pl.checkpoints.official_keys import EXTRA_TOKENS, Format
from nextgpt_pl.checkpoints.official_parts import Sizes
from nextgpt_pl.modality import Modality

_FOLDER = "ckpt/pretrained_ckpt"  # where the official instructions put the frozen parts
_CLASSES = {
    Modality.IMAGE: ("DiffusionDecoder", "StableDiffusionPipeline"),
    Modality.VIDEO: ("DiffusionDecoder", "TextToVideoSDPipeline"),
    Modality.AUDIO: ("AudioLDMDecoder", "AudioLDMPipeline"),
}


@dataclass
class NetworkPaths:
    """Hub ids or folders of the frozen parts.

    Args:
        llm: the LLM that the checkpoint was trained on.
        image: the image pipeline.
        video: the video pipeline.
        audio: the audio pipeline.
        encoder: ImageBind's weights.
        dtype: of the LLM and the decoders.

    """

    llm: str
    image: str
    video: str = "cerspense/zeroscope_v2_576w"
    audio: str = "cvssp/audioldm-l-full"
    encoder: str = f"{_FOLDER}/imagebind_ckpt/imagebind_huge.pth"
    dtype: str = "bfloat16"

    @classmethod
    def official(cls, kind: Format) -> NetworkPaths:
        """What the official code uses: Vicuna v0 and Stable Diffusion 1.5, later Vicuna v1.5 and Stable Diffusion 2."""
        if kind == "legacy":
            return cls(f"{_FOLDER}/vicuna_ckpt/7b_v0", "stable-diffusion-v1-5/stable-diffusion-v1-5")
        return cls("lmsys/vicuna-7b-v1.5", "stabilityai/stable-diffusion-2")


def network_config(sizes: Sizes, kind: Format, paths: NetworkPaths, *, share_input_projection: bool) -> dict[str, Any]:
    """The smallest ``config.yaml`` that :meth:`AnyToAny.from_run` reads."""
    arguments: dict[str, Any] = {
        "llm": _block(
            "nextgpt_pl.llm.CausalLM", path=paths.llm, dtype=paths.dtype, extra_tokens=list(EXTRA_TOKENS[kind])
        )
    }
    if sizes.input_projection is not None:
        # the newer code reads ImageBind's patches; neither applies the logit scales
        patches = kind == "v2"
        arguments["encoder"] = _block(
            "nextgpt_pl.encoders.ImageBindEncoder", weights=paths.encoder, scale_logits=False, patches=patches
        )
        arguments["input_projection"] = sizes.input_projection.yaml()
        arguments["share_input_projection"] = share_input_projection
    if sizes.output_projections:
        arguments["decoders"] = {m.value: _decoder(m, paths) for m in sizes.output_projections}
        arguments["output_projection"] = next(iter(sizes.output_projections.values())).yaml()
    network = _block("nextgpt_pl.model.NextGPT", **arguments)
    return {"model": {"init_args": {"network": network}}}


def _block(class_path: str, **arguments: Any) -> dict[str, Any]:
    return {"class_path": class_path, "init_args": arguments}


def _decoder(modality: Modality, paths: NetworkPaths) -> dict[str, Any]:
    kind, pipeline = _CLASSES[modality]
    more = {"fps": 8.0} if modality is Modality.VIDEO else {}
    path = getattr(paths, modality.value)
    return _block(f"nextgpt_pl.decoders.{kind}", pipeline=pipeline, path=path, dtype=paths.dtype, **more)
