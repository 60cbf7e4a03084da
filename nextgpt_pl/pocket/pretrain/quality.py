"""Quality of a trained part of the pocket weights on held-out items."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory

from nextgpt_pl.evaluation import JudgedRight, PocketDecoder, records
from nextgpt_pl.evaluation.judged import ALL, attribute_table
from nextgpt_pl.evaluation.run import predict, score
from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.pretrain.captions import embedding_quality
from nextgpt_pl.utils.paths import POCKET_SENSES


def measure(part: str, root: Path, count: int) -> dict[str, float]:
    """Quality on held-out items of a part in the folder ``root``; ``count`` items for a decoder."""
    if part == "llm":
        from nextgpt_pl.pocket.pretrain.text import trained_llm

        return trained_llm(root / part).quality()
    if part == "encoder":
        from nextgpt_pl.pocket.pretrain.encoder import trained_encoder

        return trained_encoder(root / part).quality()
    if part == "speech":
        from nextgpt_pl.pocket.pretrain.speech import speech_quality

        return speech_quality(root / part)
    if part in POCKET_SENSES:
        from nextgpt_pl.pocket.pretrain.sensed import trained_tower

        return trained_tower(root / part, root / "encoder").quality()
    return _decoder_quality(Modality(part), root, count)


def _decoder_quality(modality: Modality, root: Path, count: int) -> dict[str, float]:
    """Share of ``count`` held-out captions that are generated right, and quality of the caption embeddings."""
    task = PocketDecoder(modality.value, [JudgedRight()], count, root)
    with TemporaryDirectory() as name:
        folder = Path(name)
        started = time.perf_counter()
        predict(None, [task], folder, temperature=0.0, seed=0)
        seconds = (time.perf_counter() - started) / count
        found = score([task], folder)["tasks"][task.name]["scores"]
        rows = attribute_table(records.read(folder), folder)
    shares = {name: value["value"] for name, value in sorted(found.items()) if name not in ("all right", "right kinds")}
    scores = {"items": float(count), "all_right": found["all right"]["value"], "seconds_per_sample": seconds}
    if modality is Modality.IMAGE:
        right = rows[rows["attribute"] == ALL].groupby("objects")["right"].mean()
        scores |= {f"all_right_{number}_object": float(share) for number, share in right.items()}
    return {**scores, **shares, **embedding_quality(task.decoder.embed_captions, [modality])}
