"""The network block of an imported checkpoint's ``config.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nextgpt_pl.dialogue.conversation import CLOSE, MEDIUM
from nextgpt_pl.modality import Modality
from nextgpt_pl.official.keys import EXTRA_TOKENS, Format
from nextgpt_pl.official.parts import Sizes

_FOLDER = "ckpt/pretrained_ckpt"  # where the official instructions put the frozen parts
_CLASSES = {
    Modality.IMAGE: ("DiffusionDecoder", "StableDiffusionPipeline"),
    Modality.VIDEO: ("DiffusionDecoder", "TextToVideoSDPipeline"),
    Modality.AUDIO: ("AudioLDMDecoder", "AudioLDMPipeline"),
}
_SAMPLING: dict[Modality, dict[str, Any]] = {
    Modality.IMAGE: {"num_inference_steps": 50, "guidance_scale": 7.5},
    Modality.VIDEO: {
        "num_inference_steps": 40,
        "guidance_scale": 7.5,
        "height": 320,
        "width": 576,
        "num_frames": 24,
    },
    Modality.AUDIO: {"num_inference_steps": 40, "guidance_scale": 2.5, "audio_length_in_s": 5.0},
}
# Chat templates of the official training; Vicuna's tokenizers have none.
# Legacy: "### Human: <Img>MEDIUM</Img> text\n### Assistant: text\n###". The end of a turn is put before the CLOSE mark
# of its content, since the official code tokenises both together and learns the end of the assistant's turns.
_LEGACY_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    f"{{% set text = m.content.replace('{MEDIUM}', '<Img>{MEDIUM}</Img> ') %}}"
    "{% if m.role == 'assistant' %}"
    f"{{{{ text.replace('{CLOSE}', '\n###{CLOSE}') }}}}"
    "{% else %}{{ '### Human: ' if loop.first else ' Human: ' }}"
    f"{{{{ text.replace('{CLOSE}', '\n### Assistant: {CLOSE}') }}}}"
    "{% endif %}{% endfor %}"
)
_VICUNA_TEMPLATE = (
    "{{ bos_token }}A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions. {% for m in messages %}"
    "{% if m.role == 'assistant' %}ASSISTANT: {{ m.content }}{{ eos_token }}"
    "{% else %}USER: {{ m.content }} {% endif %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


@dataclass
class NetworkPaths:
    """Hub ids or folders of the frozen parts.

    Args:
        llm: the LLM that the checkpoint was trained with.
        image: diffusion pipeline of images.
        video: diffusion pipeline of videos.
        audio: diffusion pipeline of sounds.
        encoder: file of ImageBind's weights.
        dtype: dtype of the LLM and the decoders.

    """

    llm: str
    image: str
    video: str = "cerspense/zeroscope_v2_576w"
    audio: str = "cvssp/audioldm-l-full"
    encoder: str = f"{_FOLDER}/imagebind_ckpt/imagebind_huge.pth"
    dtype: str = "bfloat16"

    @classmethod
    def official(cls, kind: Format) -> NetworkPaths:
        """The official code's models: legacy has Vicuna v0 and Stable Diffusion 1.5, v2 Vicuna v1.5 and version 2."""
        if kind == "legacy":
            return cls(f"{_FOLDER}/vicuna_ckpt/7b_v0", "stable-diffusion-v1-5/stable-diffusion-v1-5")
        return cls("lmsys/vicuna-7b-v1.5", "stabilityai/stable-diffusion-2")


def network_config(sizes: Sizes, kind: Format, paths: NetworkPaths, *, share_input_projection: bool) -> dict[str, Any]:
    """The smallest ``config.yaml`` that :meth:`AnyToAny.from_run` reads."""
    legacy: dict[str, Any] = {"extra_tokens": list(EXTRA_TOKENS["legacy"]), "stop": ["###"]}
    arguments: dict[str, Any] = {
        "llm": _block(
            "nextgpt_pl.llm.CausalLM",
            path=paths.llm,
            dtype=paths.dtype,
            chat_template=_LEGACY_TEMPLATE if kind == "legacy" else _VICUNA_TEMPLATE,
            **(legacy if kind == "legacy" else {}),
        )
    }
    if sizes.input_projection is not None:
        # v2 reads ImageBind's patches; neither format applies the logit scales
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
    return _block(
        f"nextgpt_pl.decoders.{kind}",
        pipeline=pipeline,
        path=path,
        dtype=paths.dtype,
        sampling=dict(_SAMPLING[modality]),
        **more,
    )
