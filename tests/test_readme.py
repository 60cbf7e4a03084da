import re
from pathlib import Path

import pytest

from nextgpt_pl.__main__ import VERBS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"python -m nextgpt_pl (\w+)([^\n`&]*)", README)


def test_the_two_commands_come_first():
    blocks = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    assert blocks[0].strip() == "pip install -e . && python -m nextgpt_pl fit -c experiments/dec_align.yaml"
    assert blocks[1].strip() == "pip install -e '.[test]' && pytest -n auto"
    assert "\ntest = [" in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize(("verb", "rest"), COMMANDS)
def test_every_command_names_a_verb_and_existing_files(verb, rest):
    assert verb in VERBS
    for file in re.findall(r"-c (experiments/\S+)", rest):
        assert (ROOT / file).is_file()


def test_ci_runs_the_readmes_test_command():
    script = (ROOT / ".ci" / "run").read_text()
    assert "pip install -q -e '.[test,docs]'" in script
    assert "mkdocs build --strict" in script
    assert script.rstrip().endswith("\npytest -n auto")


def test_every_named_path_exists():
    for path in re.findall(r"`((?:experiments|nextgpt_pl|tests)/[\w./]+)`", README):
        assert (ROOT / path).exists(), path
