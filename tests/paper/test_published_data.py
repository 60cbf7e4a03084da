"""The files that the paper's experiments name are read as the official preparation leaves them."""

from pathlib import Path

import pytest

from nextgpt_pl.training.cli import build

ROOT = Path(__file__).parent.parent.parent
EXPERIMENTS = sorted(p for folder in ("paper", "paper_v1") for p in (ROOT / "experiments" / folder).glob("*.yaml"))


@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_row_is_used(file, official_data, tmp_path, monkeypatch):
    monkeypatch.setenv("NEXTGPT_DATA", str(official_data))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    _, data = build(["-c", str(file)])
    rows = 0
    for source in data.sources:
        for split in ("train", "val"):
            source.read(split)
            assert not source.report.broken
        rows += source.report.used
    assert rows == (8 if file.stem.startswith("instruct") else 3)
