"""``test`` by two processes of one launch against one process."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from run_test_verb import Painter

from nextgpt_pl.__main__ import main
from nextgpt_pl.errors import UserError
from nextgpt_pl.evaluation import records, shares

SCRIPT = Path(__file__).parent.parent / "helpers" / "run_test_verb.py"
TASK = """
tasks:
  - class_path: nextgpt_pl.evaluation.PocketRoute
    init_args:
      route: text->image
      count: 55
      scores:
        - class_path: nextgpt_pl.evaluation.JudgedRight
        - class_path: nextgpt_pl.evaluation.CaptionQuality
        - class_path: nextgpt_pl.evaluation.VqaAccuracy
        - class_path: nextgpt_pl.evaluation.Frechet
          init_args: {name: FID, extractor: {class_path: nextgpt_pl.metrics.extractors.PocketFeatures}}
        - class_path: nextgpt_pl.evaluation.Similarity
          init_args: {extractor: {class_path: nextgpt_pl.metrics.extractors.PocketFeatures}}
"""


def _prepare(folder):
    folder.mkdir()
    (folder / "few.yaml").write_text(TASK)
    return folder, folder / "eval" / "few"


def _two_processes(folder, **environment):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [*launch, str(SCRIPT), str(folder / "few.yaml"), str(folder)]
    environment = {**os.environ, **environment}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
def test_two_processes_write_what_one_process_writes(tmp_path, monkeypatch):
    (one, ours), (two, theirs) = _prepare(tmp_path / "one"), _prepare(tmp_path / "two")
    monkeypatch.setattr("nextgpt_pl.pipeline.AnyToAny.from_run", lambda *_, **__: Painter())
    assert main(["test", "-c", str(one / "few.yaml"), "--run", str(one)]) == 0
    broken = _two_processes(two, FAIL_ON_RANK="1")
    assert broken.returncode != 0
    assert "another rank failed: RuntimeError: out of paint" in broken.stderr
    assert not (theirs / records.FILE).read_text()
    # a part of the predictions is there already, and the last line is cut off
    kept = (ours / records.FILE).read_text()
    (theirs / records.FILE).write_text("".join(kept.splitlines(True)[:20]) + kept[:40])
    done = _two_processes(two)
    assert done.returncode == 0, done.stderr
    assert (theirs / records.FILE).read_text() == kept
    assert len(records.read(theirs)) == 55
    for prediction in records.read(theirs)[20:]:
        name = prediction.media[0]["file"]
        assert (theirs / name).read_bytes() == (ours / name).read_bytes()
    scores = [json.loads((folder / "scores.json").read_text()) for folder in (ours, theirs)]
    assert scores[0] == scores[1]
    assert len(scores[0]["tasks"]["pocket text->image"]["scores"]) == 9
    assert scores[0]["tasks"]["pocket text->image"]["constant"] == 11
    assert "| constant media | 11 |" in (theirs / "report.md").read_text()


def test_a_rank_computes_on_the_gpu_of_its_number(monkeypatch):
    """Models and feature extractors that ask for "cuda" get the current one."""
    chosen = []
    environment = SimpleNamespace(
        main_address="x", main_port=1, global_rank=lambda: 5, world_size=lambda: 8, local_rank=lambda: 1
    )
    monkeypatch.setattr(shares, "_environment", lambda: environment)
    monkeypatch.setattr("torch.distributed.init_process_group", lambda *_, **__: None)
    monkeypatch.setattr("torch.distributed.destroy_process_group", lambda: None)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    monkeypatch.setattr("torch.cuda.set_device", chosen.append)
    with shares.joined() as device:
        assert device == "cuda:1"
    assert chosen == ["cuda:1"]


def test_alone_nothing_is_joined(monkeypatch):
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    with shares.joined() as device:
        assert device is None
    assert shares.together(lambda: [1, 2]) == [1, 2]
    with pytest.raises(ZeroDivisionError):
        shares.together(lambda: [1 // 0])

    def refuse():
        raise UserError("no")

    with pytest.raises(UserError, match="no"):
        shares.by_first(refuse)
