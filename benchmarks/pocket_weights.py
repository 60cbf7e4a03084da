"""Time to load the pocket weights, and to generate a batch of 8 with each decoder.

Run: python benchmarks/pocket_weights.py
"""

from __future__ import annotations

import time
from collections.abc import Callable

from nextgpt_pl.encoders import ImageBindEncoder
from nextgpt_pl.llm import CausalLM
from nextgpt_pl.modality import GENERATED
from nextgpt_pl.pocket.parts import pocket_decoder
from nextgpt_pl.pocket.world.items import captioned_pair

BATCH = 8


def _seconds(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def main() -> None:
    """Print seconds, and each part as a share of the total."""
    # imports are not loading, and both packages import a class's code when it is first named
    from diffusers import AudioLDMPipeline, StableDiffusionPipeline, TextToVideoSDPipeline  # noqa: F401
    from transformers import ClapTextModelWithProjection, CLIPTextModel, LlamaForCausalLM, SpeechT5HifiGan  # noqa: F401

    llm, encoder = CausalLM("pocket:llm"), ImageBindEncoder("pocket:encoder", video_clips=4, audio_clips=1)
    decoders = {modality: pocket_decoder(modality) for modality in GENERATED}
    loading = {"llm": _seconds(lambda: llm.load(36)), "encoder": _seconds(encoder.load)}
    for modality, decoder in decoders.items():
        # one caption and one step: what is read late is read now
        embedding = decoder.embed_captions(["x"])
        loading[modality.value] = _seconds(lambda d=decoder: (d.captions.load(), d._loaded()))  # type: ignore[misc]
        decoder.generate(embedding, seed=0, num_inference_steps=1)
    total = sum(loading.values())
    for name, seconds in loading.items():
        print(f"load {name:<8} {seconds:6.2f} s  {seconds / total:6.1%} of loading")
    print(f"load all      {total:6.2f} s")
    for modality, decoder in decoders.items():
        captions = [captioned_pair("heldout", modality, number).caption for number in range(BATCH)]
        embeddings = decoder.embed_captions(captions)
        seconds = _seconds(lambda d=decoder, e=embeddings: d.generate(e, seed=0))  # type: ignore[misc]
        print(f"draw {BATCH} {modality:<6} {seconds:6.2f} s  {seconds / total:6.2f} of loading all")


if __name__ == "__main__":
    main()
