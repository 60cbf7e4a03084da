import sys

import pytest
from forked import Forked
from stopped_runs import Runs

EXECUTED = "executed"


@pytest.fixture
def canary(tmp_path, monkeypatch):
    """The working directory, in which a command or an import of the module ``canary`` leaves the file ``executed``.

    The test fails if it is there in the end.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    (tmp_path / "canary.py").write_text(
        f"from pathlib import Path\nPath({str(tmp_path / EXECUTED)!r}).touch()\nclass Planted: pass\n"
    )
    sys.modules.pop("canary", None)
    yield tmp_path
    sys.modules.pop("canary", None)
    assert not (tmp_path / EXECUTED).exists(), "a command was executed"


@pytest.fixture(scope="session")
def forked():
    with Forked() as running:
        yield running


@pytest.fixture(scope="session")
def runs(forked, tiny_models, tmp_path_factory):
    return Runs(forked, tiny_models, tmp_path_factory.mktemp("runs"))
