"""Tiny random instances of the paper's classes, saved to folders as the real ones lie there, and a little data."""

import json
from pathlib import Path

import numpy as np
import paper_parts
import pytest
import torch

from nextgpt_pl.media.writing import save
from nextgpt_pl.modality import Modality


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """A folder with ``llm``, ``encoder``, ``image``, ``video`` and ``audio``: random weights of the paper's classes."""
    folder = tmp_path_factory.mktemp("tiny")
    paper_parts.save_parts(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_v_prediction(tmp_path_factory) -> Path:
    """An image pipeline that predicts velocities."""
    folder = tmp_path_factory.mktemp("tiny_v")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        paper_parts.stable_diffusion(folder, "v_prediction")
    return folder


MEDIA = {
    Modality.IMAGE: ("cc3m", "images", "a.png", None),
    Modality.VIDEO: ("webvid", "videos", "a.mp4", 8.0),
    Modality.AUDIO: ("audiocap", "audios", "a.wav", 16000),
}


def _array(modality):
    generator = np.random.default_rng(0)
    if modality is Modality.AUDIO:
        return generator.uniform(-0.5, 0.5, 16000).astype(np.float32)
    shape = (40, 48, 3) if modality is Modality.IMAGE else (6, 48, 64, 3)
    return generator.integers(0, 256, shape, dtype=np.uint8)


def _turns(question, answer):
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]


def _write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows))


@pytest.fixture(scope="session")
def official_data(tmp_path_factory) -> Path:
    """The official folders with one row in each file that the paper's experiments read."""
    root = tmp_path_factory.mktemp("data")
    tuning = root / "IT_data"
    for modality, (dataset, folder, name, rate) in MEDIA.items():
        pairs = root / "T-X_pair_data" / dataset
        (pairs / folder).mkdir(parents=True)
        save(_array(modality), modality, pairs / folder / name, rate)
        _write(pairs / f"{dataset}.json", [{"caption": "a red circle", f"{modality}_name": name}])
        row = {f"{modality}_captions": "a red circle", f"output_{modality}": name}
        row["conversations"] = _turns("Show me a red circle.", f"Here it is. <{modality}>")
        _write(tuning / "T-T+X_data" / f"{modality}_t2x.json", [row])
        (tuning / "T-T+X_data" / folder).mkdir()
        save(_array(modality), modality, tuning / "T-T+X_data" / folder / name, rate)
    for target, modality in (("llava", Modality.IMAGE), ("videochat", Modality.VIDEO)):
        _, folder, name, rate = MEDIA[modality]
        place = tuning / "T+X-T_data" / target / folder
        place.mkdir(parents=True)
        save(_array(modality), modality, place / name, rate)
    _write(
        tuning / "T+X-T_data" / "llava" / "llava.json",
        [{"image": "a.png", "conversations": _turns("<image>\nWhat is it?", "A red circle.")}],
    )
    _write(
        tuning / "T+X-T_data" / "videochat" / "videochat.json",
        [{"video": "a.mp4", "QA": [{"q": "What moves?", "a": "A red circle."}]}],
    )
    _write(
        tuning / "T+X-T_data" / "alpaca" / "alpaca.json",
        [{"instruction": "Name a shape.", "input": "", "output": "A circle."}],
    )
    _write(
        tuning / "MosIT_data" / "mosit.json",
        [
            {
                "image_captions": "a red circle",
                "output_image": "a.png",
                "conversations": [
                    *_turns("Draw a circle.", "Of course. <image>"),
                    *_turns("What is it?", "A circle."),
                ],
            }
        ],
    )
    return root
