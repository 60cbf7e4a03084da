import shutil

import torch

from nextgpt_pl.pocket.pretrain import text
from nextgpt_pl.utils.paths import pocket_weights


def test_the_initial_weights_of_the_llm_follow_from_the_seed(tmp_path, monkeypatch):
    shutil.copytree(pocket_weights() / "llm", tmp_path / "llm", ignore=shutil.ignore_patterns("*.safetensors"))
    weights = []
    monkeypatch.setattr(text, "train", lambda task, work: weights.append(task.llm.lm_head.weight.detach().clone()))
    monkeypatch.setattr(text, "save_half", lambda model, folder: None)
    for state, seed in enumerate((0, 0, 1)):
        torch.manual_seed(100 + state)  # random numbers that were drawn before
        text.pretrain_llm(tmp_path, tmp_path, seed=seed, steps=1)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
