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


def _turns(*texts):
    return [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(texts)]


def _write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows))


@pytest.fixture(scope="session")
def official_data(tmp_path_factory) -> Path:
    """The folders that the official preparation leaves, with one row in each file that the paper's experiments read."""
    root = tmp_path_factory.mktemp("data")
    tuning = root / "IT_data"
    for modality, (dataset, folder, name, rate) in MEDIA.items():
        pairs = root / "T_X_pair_data" / dataset
        (pairs / folder).mkdir(parents=True)
        save(_array(modality), modality, pairs / folder / name, rate)
        identity = {"audio_id": 91139} if modality is Modality.AUDIO else {"id": "a"}
        _write(pairs / f"{dataset}.json", [{**identity, f"{modality}_name": name, "caption": "a red circle"}])
        _write(tuning / "T-T+X_data" / f"{modality}_instruction_tuning.json", [_request(modality)])
    for target, modality, place in (("llava", Modality.IMAGE, "images"), ("videochat", Modality.VIDEO, "video")):
        _, _, name, rate = MEDIA[modality]
        path = tuning / "T+X-T_data" / target / place / name
        path.parent.mkdir(parents=True)
        save(_array(modality), modality, path, rate)
    _write(
        tuning / "T+X-T_data" / "llava" / "preprocessed_llava.json",
        [
            {
                "input_image": ["a.png", "a.png"],
                "conversations": _turns("<image>\nWhat is it?", "A red circle.", "Sure?\n<image>", "Yes."),
            }
        ],
    )
    _write(
        tuning / "T+X-T_data" / "videochat" / "videochat.json",
        [{"video": "a.mp4", "QA": [{"i": "", "q": "What moves?", "a": "A red circle."}]}],
    )
    _write(
        tuning / "T+X-T_data" / "alpaca" / "alpaca.json",
        [{"instruction": "Name a shape.", "input": "", "output": "A circle."}],
    )
    _write(
        tuning / "MosIT_data" / "mosit_instruction_tuning.json",
        [
            {
                "image_captions": ["a red circle"],
                "image_caption_embeddings": ["mosit_i_0_00.jpg.npy"],
                "conversations": _turns("Draw a circle.", "Of course. <image>", "What is it?", "A circle."),
            },
            {
                "image_captions": [],
                "image_caption_embeddings": [],
                "conversations": _turns("Which shape is this?", "A circle."),
            },
        ],
    )
    return root


def _request(modality):
    turns = _turns("Show me a red circle.", f"Here it is. <{modality}>")
    turns[0]["input_modality"] = "text"
    turns[1] |= {"caption": "a red circle", "output_modality": modality.value}
    return {
        f"{modality}_captions": ["a red circle"],
        f"{modality}_caption_embeddings": [f"it_{modality}_0.npy"],
        "conversations": turns,
        "source_data": {"audiocap_id": 1, "caption": "a red circle"},
    }
