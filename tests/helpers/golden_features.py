"""Features of fixed inputs by every producer, with the producer's version: ``python tests/helpers/golden_features.py``.

The command writes ``tests/golden/features.json``. Weights come from the pocket weights or from a formula, so that no
random generator is involved.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

FILE = Path(__file__).parent.parent / "golden" / "features.json"
FILE_ENDINGS = {"image": ".png", "video": ".mp4", "audio": ".wav"}
_VALUES = 24  # evenly spaced values that are kept of an array


def summary(array) -> list[float]:
    """The shape, the mean, the standard deviation and some values of an array."""
    values = np.asarray(array, np.float64)
    flat = values.ravel()
    some = flat[np.linspace(0, flat.size - 1, min(_VALUES, flat.size)).astype(int)]
    return [*values.shape, *(float(f"{v:.6g}") for v in (flat.mean(), flat.std(), *some))]


def fill(module: torch.nn.Module, scale: float = 0.1) -> torch.nn.Module:
    """Set all parameters by a formula."""
    with torch.no_grad():
        for number, parameter in enumerate(module.parameters()):
            places = torch.arange(parameter.numel(), dtype=torch.float64) * 0.7 + number
            parameter.copy_((places.sin() * scale).view_as(parameter).to(parameter.dtype))
    return module.eval()


def pocket_media() -> dict:
    """One rendered medium per modality."""
    from nextgpt_pl.modality import GENERATED
    from nextgpt_pl.pocket.world.items import captioned_pair

    return {modality: captioned_pair("heldout", modality, 3).media for modality in GENERATED}


def renderer() -> tuple[str, dict]:
    from nextgpt_pl.pocket.world import render

    return str(render.VERSION), {m.value: summary(medium.source()) for m, medium in pocket_media().items()}


def reading() -> tuple[str, dict]:
    from nextgpt_pl.media import reading as media
    from nextgpt_pl.media.writing import save
    from nextgpt_pl.samples import Media

    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for modality, medium in pocket_media().items():
            path = Path(folder) / f"medium{FILE_ENDINGS[modality.value]}"
            save(medium.source(), modality, path, medium.sample_rate or medium.fps)
            array, rate = media.array_of(Media(modality, path))
            found[modality.value] = [rate or 0.0, *summary(array)]
    return str(media.VERSION), found


def _encoded(encoder, modalities) -> dict:
    given = pocket_media()
    return {m.value: summary(encoder.features(m, [given[m]], "cpu")) for m in modalities}


def imagebind() -> tuple[str, dict]:
    from nextgpt_pl.encoders import ImageBindEncoder, imagebind_encoder, preprocessing
    from nextgpt_pl.modality import GENERATED

    versions = f"{imagebind_encoder.VERSION}, preprocessing {preprocessing.VERSION}"
    return versions, _encoded(ImageBindEncoder("pocket:encoder", video_clips=2, audio_clips=1), GENERATED)


def imagebind_other_towers() -> tuple[str, dict]:
    """Depth, thermal and IMU, which the pocket encoder does not have."""
    from safetensors.torch import save_file

    from nextgpt_pl.encoders import ImageBindEncoder, imagebind_encoder, preprocessing
    from nextgpt_pl.encoders.imagebind import ImageBindConfig, ImageBindModel, TowerConfig
    from nextgpt_pl.modality import Modality
    from nextgpt_pl.samples import Media

    tower = TowerConfig(16, 2, 2)
    towers = {"vision": tower, "depth": tower, "thermal": tower, "imu": tower}
    config = ImageBindConfig(out_dim=24, towers=towers, image_size=28)
    plane = np.add.outer(np.arange(40.0), np.arange(60.0)).astype(np.float32)
    arrays = {"depth": 0.5 + plane / 50, "thermal": plane / 100, "imu": np.sin(plane[:6].repeat(40, 1))}
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        config.to_json(Path(folder) / "config.json")
        weights = fill(ImageBindModel(config)).state_dict()
        save_file({k: v.contiguous() for k, v in weights.items()}, Path(folder) / "model.safetensors")
        encoder = ImageBindEncoder(folder, modalities=[*arrays])
        for name, array in arrays.items():
            medium = Media(Modality(name), lambda a=array: a)
            found[name] = summary(encoder.features(Modality(name), [medium], "cpu"))
    return f"{imagebind_encoder.VERSION}, preprocessing {preprocessing.VERSION}", found


def clip_and_clap() -> tuple[str, dict]:
    import transformers as t

    from nextgpt_pl.encoders import ClipClapEncoder, clip_clap, preprocessing
    from nextgpt_pl.modality import GENERATED

    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    clip = t.CLIPVisionModelWithProjection(t.CLIPVisionConfig(**vision, image_size=32, patch_size=8, projection_dim=12))
    audio = {"patch_embeds_hidden_size": 8, "depths": [1, 1], "num_attention_heads": [1, 2], "num_hidden_layers": 2}
    sizes = {"hidden_size": 16, "spec_size": 64, "num_mel_bins": 16, "projection_dim": 12, "window_size": 4}
    clap = t.ClapAudioModelWithProjection(t.ClapAudioConfig(**audio, **sizes))
    with tempfile.TemporaryDirectory() as folder:
        fill(clip).save_pretrained(Path(folder) / "clip")
        t.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32).save_pretrained(Path(folder) / "clip")
        fill(clap).save_pretrained(Path(folder) / "clap")
        extractor = t.ClapFeatureExtractor(
            feature_size=16, sampling_rate=16000, max_length_s=2, truncation="rand_trunc"
        )
        extractor.save_pretrained(Path(folder) / "clap")
        encoder = ClipClapEncoder(str(Path(folder) / "clip"), str(Path(folder) / "clap"))
        versions = f"{clip_clap.VERSION}, preprocessing {preprocessing.VERSION}"
        return versions, _encoded(encoder, GENERATED)


def pretrained_towers() -> tuple[str, dict]:
    """An image, a video and an audio tower of transformers."""
    import tiny_towers
    from transformers import AutoModel

    from nextgpt_pl.encoders import PretrainedEncoder, preprocessing, pretrained
    from nextgpt_pl.modality import Modality

    read = {"SigLIP, SigLIP 2": ["image"], "V-JEPA 2": ["video"], "Whisper": ["audio"]}
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, path in tiny_towers.save_towers(Path(folder), read).items():
            fill(AutoModel.from_pretrained(path)).save_pretrained(path)
            found |= _encoded(PretrainedEncoder(path, read[name], "patches"), map(Modality, read[name]))
    return f"{pretrained.VERSION}, preprocessing {preprocessing.VERSION}", found


def captions() -> tuple[str, dict]:
    from nextgpt_pl.decoders.captions import CaptionEncoder
    from nextgpt_pl.modality import GENERATED
    from nextgpt_pl.pocket.parts import pocket_decoder

    texts = ["a large red circle on a black background", "a low hum"]
    found = {m.value: summary(pocket_decoder(m).captions.encode(texts).detach()) for m in GENERATED}
    return str(CaptionEncoder.version), found


def llm_states() -> tuple[str, dict]:
    from functools import partial

    from nextgpt_pl.batches import Rendered, SignalSpan
    from nextgpt_pl.dialogue.batching import pad
    from nextgpt_pl.llm import CausalLM
    from nextgpt_pl.modality import Modality
    from nextgpt_pl.model import NextGPT
    from nextgpt_pl.pocket.parts import pocket_decoder
    from nextgpt_pl.projections import MLPOutputProjection
    from nextgpt_pl.stages import signal_states

    network = NextGPT(
        llm=CausalLM("pocket:llm"),
        decoders={"image": pocket_decoder(Modality.IMAGE)},
        output_projection=partial(MLPOutputProjection, width=8),
    )
    network.load()
    for name, parameter in network.llm.named_parameters():
        if name.endswith(".rows"):
            with torch.no_grad():
                parameter.copy_(torch.arange(parameter.numel()).view_as(parameter).sin() * 0.05)
    tokenizer, signals = network.llm.tokenizer, network.signal_ids()[Modality.IMAGE]
    text = tokenizer("a large red circle", add_special_tokens=False).input_ids
    ids = [*text, *signals]
    span = SignalSpan(Modality.IMAGE, len(text), len(ids), "a large red circle")
    states = signal_states.SignalStates(network)(pad([Rendered(ids, ids, spans=(span,))], tokenizer.pad_token_id))
    found = {"text": summary([float(states.text_loss), float(states.right)])}
    found["image"] = summary(states.at_signals[Modality.IMAGE])
    return str(signal_states.VERSION), found


PRODUCERS = (
    renderer,
    reading,
    imagebind,
    imagebind_other_towers,
    clip_and_clap,
    pretrained_towers,
    captions,
    llm_states,
)


def main() -> None:
    golden = {}
    for producer in PRODUCERS:
        version, features = producer()
        golden[producer.__name__] = {"version": version, "features": features}
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent.parent))
    main()
