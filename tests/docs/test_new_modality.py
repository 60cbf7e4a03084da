"""The page on new modalities: its diff alone, applied to a copy of the package, makes all of its commands work."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs/recipes/new-modality.md").read_text()
TINY = [
    "--trainer.max_steps=1",
    "--trainer.limit_val_batches=0",
    "--trainer.val_check_interval=1",
    "--data.batch_size=2",
]
COMMANDS = [
    shlex.split(line)
    for text in re.findall(r"^```bash\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for line in text.replace("\\\n", " ").splitlines()
]


def applied(diff: str, root: Path) -> set[str]:
    """Apply a diff whose hunks are found by their lines; the names of the changed files."""
    changed, file = set(), root
    for hunk in diff.split("\n@@\n"):
        lines = hunk.splitlines()
        if lines[0].startswith("--- a/"):
            file = root / lines[1].removeprefix("+++ b/")
            changed.add(lines[1].removeprefix("+++ b/"))
            continue
        before, after = ("".join(f"{line[1:]}\n" for line in lines if line[0] in signs) for signs in (" -", " +"))
        text = file.read_text()
        assert text.count(before) == 1, before
        file.write_text(text.replace(before, after))
    return changed


@pytest.fixture
def copy(tmp_path):
    """A folder with the page's files, and the package with the page's diff."""
    package = ROOT / "nextgpt_pl"
    shutil.copytree(package, tmp_path / "nextgpt_pl", ignore=shutil.ignore_patterns("weights", "__pycache__"))
    (tmp_path / "nextgpt_pl/pocket/weights").symlink_to(package / "pocket/weights")
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    for name, text in re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```$', PAGE, re.MULTILINE | re.DOTALL):
        (tmp_path / name).write_text(text)
    assert applied((tmp_path / "mine.diff").read_text(), tmp_path) == {"nextgpt_pl/modality.py"}
    return tmp_path


def run(folder: Path, arguments: list[str]) -> str:
    """Output of a Python process in a folder, which imports the copy of the package."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "WANDB_MODE": "disabled"}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_rows_and_the_encoders_are_all_that_is_needed(copy):
    for name in ("my_points.py", "my_tables.py"):
        assert len((copy / name).read_text().splitlines()) < 150
    run(copy, [str(Path(__file__).with_name("new_modality_checks.py"))])


@pytest.mark.long
def test_the_commands_of_the_page_run(copy):
    for number, (python, *arguments) in enumerate(COMMANDS):
        assert python == "python"
        if arguments[0] == "my_world.py":
            arguments = ["my_world.py", "150", "2"]  # a fiftieth of the rows is for validation
        elif arguments[0] == "pretrain_mine.py":
            arguments = ["pretrain_mine.py", "1", "4"]
        elif arguments[2] == "fit":
            name = "mine_pairs" if "mine_pairs.yaml" in arguments else "mine_dialogues"
            arguments += [*TINY, "--run.name=RUN", f"--run.experiment={name}"]
        output = run(copy, arguments)
        if "generate" in arguments:
            assert (copy / "reply" / "reply.txt").is_file()
            assert number == len(COMMANDS) - 1
        if "check" in arguments:
            assert "nothing wrong" in output
