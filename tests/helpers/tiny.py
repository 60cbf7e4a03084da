"""Stages on tiny random models of the real classes, built alike in every process that is given the same folder."""

from functools import partial
from pathlib import Path

import torch
from lightning.pytorch import Trainer
from safetensors.torch import save_file

from nextgpt_pl.datamodules import CaptionedPairs, Dialogues, PocketDialogues, PocketWorld
from nextgpt_pl.decoders import DiffusionDecoder
from nextgpt_pl.encoders import ImageBindEncoder, MixedEncoder, PretrainedEncoder
from nextgpt_pl.encoders.imagebind import ImageBindConfig, ImageBindModel, TowerConfig
from nextgpt_pl.llm import CausalLM, LoRA
from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.model import NextGPT
from nextgpt_pl.pocket.parts import pocket_decoder
from nextgpt_pl.projections import MLPOutputProjection, WordInputProjection
from nextgpt_pl.stages import DecoderAlignment, EncoderAlignment, InstructionTuning

STAGES = ("EncoderAlignment", "DecoderAlignment", "InstructionTuning")


def save_llama(folder: Path, **config) -> None:
    """A random Llama with the pocket tokenizer; ``config`` changes its sizes."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = CausalLM("pocket:llm").tokenizer
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
    sizes |= {"num_key_value_heads": 2, "vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id}
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**{**sizes, **config})).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def save_models(folder: Path) -> None:
    """A Llama with the pocket tokenizer and an ImageBind, random, in ``folder``."""
    save_llama(folder / "llm")
    tower = TowerConfig(16, 2, 2)
    sizes = {**vars(ImageBindConfig.pocket(100, 2)), "out_dim": 16, "towers": {"vision": tower, "audio": tower}}
    encoder = ImageBindConfig(**sizes)
    (folder / "encoder").mkdir()
    encoder.to_json(folder / "encoder" / "config.json")
    save_file(dict(ImageBindModel(encoder).state_dict()), folder / "encoder" / "model.safetensors")


def quick_decoder(modality: Modality) -> DiffusionDecoder:
    """A decoder of the pocket model that draws in two steps."""
    decoder = pocket_decoder(modality)
    decoder.sampling["num_inference_steps"] = 2
    return decoder


def mix(folder: Path) -> MixedEncoder:
    """Three towers that ``tiny_towers`` has saved to ``folder``, with other widths and numbers of features each."""
    return MixedEncoder(
        {
            "sight": PretrainedEncoder(str(folder / "CLIP"), ["image"]),
            "hearing": PretrainedEncoder(str(folder / "Whisper"), ["audio"], "patches", [3]),
            "motion": PretrainedEncoder(str(folder / "V-JEPA 2"), ["video"], "patches", [1, 2, 1]),
        }
    )


def network(folder: Path, cache=None, media_in_history="signals", modalities=None, towers=None, **llm) -> NextGPT:
    """The tiny network, not loaded; seeds what is initialised when it is.

    Its encoder is an ImageBind of ``modalities``, or a mix of the towers in the folder ``towers``.
    """
    torch.manual_seed(0)
    imagebind = ImageBindEncoder(str(folder / "encoder"), modalities=modalities, video_clips=2, audio_clips=1)
    return NextGPT(
        llm=CausalLM(str(folder / "llm"), **llm),
        encoder=imagebind if towers is None else mix(Path(towers)),
        input_projection=partial(WordInputProjection, width=16, expand=2),
        decoders={m.value: quick_decoder(m) for m in GENERATED},
        output_projection=partial(MLPOutputProjection, width=16),
        media_in_history=media_in_history,
        cache=cache,
    )


def stage_and_data(name: str, folder: Path, batch_size: int, train_size: int = 8, workers: int = 0, cache=None, **llm):
    """A stage by its class name, with its data."""
    arguments = {"lr": 1e-2, "warmup_ratio": 0.0}
    data = {"batch_size": batch_size, "num_workers": workers, "seed": 3}
    model = network(folder, cache, **llm)
    if name == "InstructionTuning":
        lora = LoRA(r=2, alpha=4, dropout=0.0)
        dialogues = [PocketDialogues(train_size=train_size, val_size=2)]
        return InstructionTuning(model, lora=lora, samples=0, **arguments), Dialogues(dialogues, **data)
    pairs = CaptionedPairs([PocketWorld(train_size=train_size, val_size=4)], **data)
    if name == "DecoderAlignment":
        return DecoderAlignment(model, samples=0, **arguments), pairs
    return EncoderAlignment(model, captions=3, max_new_tokens=4, word_steps=2, word_weight=0.5, **arguments), pairs


def quiet_trainer(folder: Path, **options) -> Trainer:
    """Of a few steps on the CPU, that leaves nothing but what the stage and ``options`` ask for."""
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(accelerator="cpu", default_root_dir=folder, **{**quiet, **options})
