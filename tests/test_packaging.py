"""What a wheel holds, and what the verbs say where only the installed package is there."""

from pathlib import Path

import pytest
from setuptools import Distribution
from setuptools.config.pyprojecttoml import apply_configuration

from nextgpt_pl.__main__ import main

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def packed():
    """Paths of the files that setuptools puts into the wheel, without building it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        distribution = Distribution({"script_name": "setup.py"})
        apply_configuration(distribution, ROOT / "pyproject.toml")
        build = distribution.get_command_obj("build_py")
        build.ensure_finalized()
        outputs = build.get_outputs(include_bytecode=False)
    return {Path(name).relative_to(build.build_lib).as_posix() for name in outputs}


def test_every_file_of_the_package_is_in_the_wheel(packed):
    files = [file for file in (ROOT / "nextgpt_pl").rglob("*") if file.is_file() and file.suffix != ".pyc"]
    assert packed == {file.relative_to(ROOT).as_posix() for file in files}


@pytest.mark.parametrize(
    "name",
    [
        "py.typed",
        "pocket/weights/llm/model.safetensors",
        "pocket/weights/llm/chat_template.jinja",
        "pocket/weights/video/unet/diffusion_pytorch_model.safetensors",
        "published/vicuna_7b.json",
        "reports/templates/page.html",
        "reports/templates/blocks.html",
    ],
)
def test_the_wheel_holds(packed, name):
    assert f"nextgpt_pl/{name}" in packed


@pytest.mark.parametrize(
    "arguments",
    [
        ["fit", "-c", "experiments/dec_align.yaml"],
        ["test", "-c", "experiments/eval/pocket.yaml", "--run", "RUN"],
        ["score", "--run", "RUN"],
        ["tour"],
        ["data", "check", "-c", "experiments/enc_align.yaml"],
        ["summary", "-c", "experiments/paper/instruct.yaml"],
        ["cache", "-c", "experiments/enc_align.yaml"],
        ["inspect", "-c", "experiments/enc_align.yaml"],
        ["sweep", "experiments/sweeps/projection_size.yaml"],
        ["ablate", "experiments/ablations"],
    ],
    ids=" ".join,
)
def test_without_a_clone_a_message_says_where_the_experiments_are(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: experiments/")
    assert "part of the project's repository and not of the installed package, so run the command in a clone" in message


def test_in_a_clone_a_missing_experiment_is_only_missing(tmp_path, monkeypatch, capsys):
    (tmp_path / "experiments").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "-c", "experiments/nowhere.yaml"]) == 2
    assert capsys.readouterr().err == "error: experiments/nowhere.yaml: no such file\n"
