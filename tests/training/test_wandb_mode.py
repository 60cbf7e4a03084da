import importlib.util
import os
import re
import subprocess
import sys

import pytest
import wandb

from nextgpt_pl.errors import UserError
from nextgpt_pl.training.wandb_mode import check_wandb, wandb_errors, wandb_mode


@pytest.fixture(autouse=True)
def _no_credentials(tmp_path, monkeypatch):
    """A home without W&B's key, and no terminal to ask for one."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "")  # restored after the test, which sets it
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.mark.parametrize("mode", ["bogus", "Online", "0"])
def test_modes_that_wandb_does_not_have_are_refused(mode, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", mode)
    with pytest.raises(UserError, match=f"WANDB_MODE='{mode}': expected one of online, offline, disabled, shared"):
        check_wandb()


def test_an_empty_mode_is_the_default():
    assert wandb_mode() == "offline"
    check_wandb()


_KEYS = """
import os
from nextgpt_pl.errors import UserError
from nextgpt_pl.training.wandb_mode import check_wandb

for key in (None, "short", "0123456789" * 4):
    if key is not None:
        os.environ["WANDB_API_KEY"] = key
    try:
        check_wandb()
        print("accepted")
    except UserError as error:
        print(error)
"""


@pytest.mark.parametrize("mode", ["online", "shared"])
def test_a_missing_or_malformed_key_is_refused_before_the_run(mode, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", mode)
    # W&B's client keeps the key of a process
    told = subprocess.run([sys.executable, "-c", _KEYS], capture_output=True, text=True, check=True)
    missing, malformed, right = told.stdout.splitlines()
    assert re.fullmatch(r"W&B: No API key configured.*WANDB_MODE=offline logs into the run's folder.*", missing)
    assert malformed.startswith("W&B: WANDB_API_KEY invalid")
    assert right == "accepted"


def test_wandb_that_is_not_installed_is_named(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "wandb" else found(name, *a))
    with pytest.raises(UserError, match="W&B is not installed: pip install wandb; WANDB_MODE=disabled"):
        check_wandb()
    monkeypatch.setenv("WANDB_MODE", "disabled")
    check_wandb()


def test_a_server_that_cannot_be_reached_is_an_error_of_wandb():
    with pytest.raises(UserError, match="W&B: timed out; WANDB_MODE=offline"), wandb_errors():
        raise wandb.errors.CommError("timed out")
    with pytest.raises(KeyError), wandb_errors():
        raise KeyError("other")


@pytest.mark.parametrize(("mode", "message"), [("bogus", "WANDB_MODE='bogus'"), ("online", "W&B: No API key")])
def test_fit_is_refused_and_leaves_no_folder(mode, message, monkeypatch, request, tmp_path):
    monkeypatch.setenv("WANDB_MODE", mode)
    experiment = request.config.rootpath / "experiments" / "dec_align.yaml"
    command = [sys.executable, "-m", "nextgpt_pl", "fit", "-c", str(experiment)]
    told = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert told.returncode == 2
    assert message in told.stderr
    assert not (tmp_path / "outputs").exists()
