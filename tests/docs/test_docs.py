"""The documentation builds, its code runs, its commands parse, and what it names exists."""

import argparse
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import jsonargparse
import pytest
import torch
import yaml

from nextgpt_pl.__main__ import VERBS, main

ROOT = Path(__file__).parent.parent.parent
PAGES = {str(p.relative_to(ROOT)): p for p in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]}
GENERATED = "docs/results.md"
# its code and commands need the diff that it shows: tests/docs/test_new_modality.py runs them
WITH_DIFF = "docs/recipes/new-modality.md"
# pages whose Python takes more than a few seconds, or trains what tests/stages trains too
SLOW = {"README.md", "docs/using.md", *(f"docs/stages/{s}-alignment.md" for s in ("encoder", "decoder"))}
# verbs that parse a whole experiment or evaluation, which takes a second: in the default tests only
# those that read a recipe's own YAML
THOROUGH = {"fit", "validate", "test", "cache", "inspect", "summary", "data"}
# commands in the pages that are not ours, and why none of them is run here
ELSEWHERE = {
    "pip": "installs packages",
    "lmms-eval": "is no dependency; tests/harness/test_lmms_eval.py runs it where it is installed",
    "playwright": "downloads a browser",
    "mkdocs": "test_the_site_builds_strictly runs it",
    "pytest": "this is a test",
    "wandb": "needs W&B's server",
    "torchrun": "starts processes; tests/training/test_strategies.py does",
    "sbatch": "needs SLURM; tests/training/test_slurm.py has a stand-in",
    "ruff": ".ci/run runs it",
    "mypy": ".ci/run runs it",
}
# scripts that are only checked to exist: they take minutes, or need a browser
SCRIPTS = ("benchmarks/", "docs/write_results.py", "docs/demo_pictures.py")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    title: str | None
    text: str


def blocks(page: Path) -> list[Block]:
    found = []
    for language, rest, text in re.findall(
        r"^```(\w+)([^\n]*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL
    ):
        title = re.search(r'title="([^"]+)"', rest)
        found.append(Block(language, title.group(1) if title else None, text))
    return found


def commands(page: Path) -> list[str]:
    """The command lines of a page's bash blocks; several on a line are taken apart, as the shell does."""
    lines = []
    for block in blocks(page):
        if block.language == "bash":
            text = block.text.replace("\\\n", " ")
            lines += [part.strip() for line in text.splitlines() if line.strip() for part in line.split("&&")]
    return [line for line in lines if not line.startswith("#")]


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A folder with the experiments, as a clone has them; files that pages write go here."""
    for name in ("experiments", "data"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file and Path(file).is_relative_to(tmp_path):
            del sys.modules[name]


def write_files(page: Path, folder: Path) -> None:
    for block in blocks(page):
        if block.title:
            file = folder / block.title
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text)


def python_pages():
    for name, page in PAGES.items():
        if any(block.language == "python" for block in blocks(page)):
            yield pytest.param(page, id=name, marks=[pytest.mark.slow] if name in SLOW else [])


def bash_commands():
    seen = {}
    for name, page in PAGES.items():
        for command in commands(page) if name != WITH_DIFF else ():
            seen.setdefault(command, (name, page))
    for command, (name, page) in seen.items():
        verb = re.search(r"-m nextgpt_pl (\w+)", command)
        own = name.startswith("docs/recipes/") and any(b.title and b.title in command for b in blocks(page))
        slow = verb is not None and verb.group(1) in THOROUGH and not own
        yield pytest.param(command, page, id=f"{name}: {command[:60]}", marks=[pytest.mark.slow] if slow else [])


def make_run(folder: Path) -> None:
    """``outputs/instruct/RUN``, which the pages about trained models read, after one step."""
    arguments = [
        *("--run.experiment=instruct", "--run.name=RUN", "--trainer.max_steps=1", "--trainer.limit_val_batches=0"),
        *("--data.init_args.sources.init_args.train_size=2", "--data.batch_size=2", "--model.samples=0"),
    ]
    assert main(["fit", "-c", "experiments/instruct.yaml", *arguments]) == 0


@pytest.mark.parametrize("page", python_pages())
def test_the_python_of_a_page_runs(page, clone, capsys):
    write_files(page, clone)
    text = page.read_text()
    if "outputs/instruct/RUN" in "".join(b.text for b in blocks(page) if b.language == "python"):
        make_run(clone)
    torch.manual_seed(0)
    namespace = {"__name__": "__page__"}
    for block in blocks(page):
        if block.language == "python" and not block.title:
            line = text[: text.index(block.text)].count("\n")  # so that a traceback names the page's line
            exec(compile("\n" * line + block.text, str(page), "exec"), namespace)


class Parsed(BaseException):
    """The arguments were accepted."""


@pytest.fixture
def only_parse(monkeypatch):
    """Every command line ends when its arguments have been parsed."""
    inside = []

    def ending(original):
        def parse(self, *args, **kwargs):
            inside.append(1)
            try:
                values = original(self, *args, **kwargs)
            finally:
                inside.pop()
            if not inside:
                raise Parsed(values)
            return values

        return parse

    for parser in (argparse.ArgumentParser, jsonargparse.ArgumentParser):
        for method in ("parse_args", "parse_known_args"):
            if method in vars(parser):
                monkeypatch.setattr(parser, method, ending(vars(parser)[method]))


@pytest.mark.parametrize(("command", "page"), bash_commands())
def test_a_command_parses(command, page, clone, only_parse, capsys):
    words = shlex.split(command)
    variables = [word for word in words if re.fullmatch(r"[A-Z_]+=\S*", word)]
    words = words[words[: len(variables)] == variables and len(variables) :]
    if words[0] in ELSEWHERE:
        return
    if words[0] == "python" and words[1].startswith(SCRIPTS):
        assert (ROOT / words[1]).is_file()
        return
    assert words[:3] == ["python", "-m", "nextgpt_pl"], f"{command}: add it to ELSEWHERE, with a reason"
    arguments = words[3:]
    assert arguments[0] in VERBS
    write_files(page, clone)
    for flag, value in pairwise(arguments):
        if flag == "-c" and value != "FILE":
            assert Path(value).is_file(), value
    if "FILE" in arguments:
        arguments = ["experiments/dec_align.yaml" if word == "FILE" else word for word in arguments]
    try:
        code = main(arguments)
    except Parsed as parsed:
        rest = parsed.args[0][1] if isinstance(parsed.args[0], tuple) else []
    else:
        pytest.fail(f"exit code {code}: {capsys.readouterr().err}")
    if rest:  # what the verb leaves to the experiment's own parser
        configs = [word for pair in pairwise(arguments) if pair[0] == "-c" for word in pair]
        with pytest.raises(Parsed):
            main(["fit", *configs, *rest])


def test_a_command_with_a_wrong_key_does_not_parse(clone, only_parse, capsys):
    assert main(["fit", "-c", "experiments/dec_align.yaml", "--model.lrr=1"]) == 2
    assert main(["chat", "--runn", "outputs"]) == 2
    with pytest.raises(Parsed):
        main(["fit", "-c", "experiments/dec_align.yaml", "--model.lr=1"])


@pytest.mark.parametrize("name", PAGES)
def test_the_other_blocks_of_a_page_are_what_they_say(name, clone, capsys):
    fences = re.findall(r"^\s*```", PAGES[name].read_text(), re.MULTILINE)
    assert len(fences) == 2 * len(blocks(PAGES[name])), "a fence is indented or names no language: nothing checks it"
    for block in blocks(PAGES[name]):
        assert block.language in {"python", "bash", "yaml", "console", "text", "json", "diff"}
        if block.language == "yaml":
            yaml.safe_load(block.text)
        if block.language == "console":
            prompt, *output = block.text.splitlines()
            words = shlex.split(prompt.removeprefix("$ python -m nextgpt_pl "))
            main(words)
            assert capsys.readouterr().err.splitlines() == output


@pytest.mark.parametrize("name", [name for name in PAGES if name != GENERATED])
def test_what_a_page_names_exists(name):
    text = PAGES[name].read_text()
    for path in re.findall(r"`((?:experiments|nextgpt_pl|tests|docs|data|benchmarks|notebooks)/[\w./]+)`", text):
        assert (ROOT / path).exists(), path
    for verb, rest in re.findall(r"python -m nextgpt_pl ([a-z]\w*)([^\n`&]*)", text):
        assert verb in VERBS
        for file in re.findall(r"(?:-c |sweep |ablate )(experiments/\S+)", rest):
            assert (ROOT / file).exists(), file
    for module, member in re.findall(r"`(nextgpt_pl(?:\.[a-z_]+)+)\.([A-Z]\w+)`", text):
        assert hasattr(importlib.import_module(module), member), f"{module}.{member}"


@pytest.mark.parametrize("name", PAGES)
def test_a_file_named_with_a_definition_has_it(name):
    """``path.py: name`` in backticks points at a class, a function or a method of that file."""
    for path, member in re.findall(r"`(nextgpt_pl/[\w/]+\.py): ([\w.]+)`", PAGES[name].read_text()):
        defined = (ROOT / path).read_text()
        for part in member.split("."):
            assert re.search(rf"^\s*(def|class) {part}\b", defined, re.MULTILINE), f"{path}: {part}"


def test_every_folder_of_the_package_is_in_the_layout():
    folders = {f.name for f in (ROOT / "nextgpt_pl").iterdir() if (f / "__init__.py").is_file()} - {"published"}
    assert folders == set(re.findall(r"`nextgpt_pl/(\w+)/`", PAGES["docs/layout.md"].read_text()))


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_files(name):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", PAGES[name].read_text()):
        if not target.startswith("https://"):
            assert (PAGES[name].parent / target).exists(), target


def test_every_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text()
    assert {name.removeprefix("docs/") for name in PAGES} - {"README.md"} == set(re.findall(r"[\w/-]+\.md", text))


def test_every_verb_has_a_row_in_the_readme():
    readme = PAGES["README.md"].read_text()
    assert set(VERBS) == set(re.findall(r"^\| `python -m nextgpt_pl (\w+)", readme, re.MULTILINE))
    assert len(readme.splitlines()) <= 150


def _writer():
    specification = importlib.util.spec_from_file_location("write_results", ROOT / "docs" / "write_results.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_results_page_is_what_the_command_writes():
    for path, text in _writer().written(ROOT).items():
        assert (ROOT / path).read_text() == text, f"{path}: run python docs/write_results.py"


def test_a_figure_without_its_commit_is_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("title: A\nfigures: [{what: x, value: 1, command: c, machine: m}]\n")
    with pytest.raises(ValueError, match=r"a\.yaml, row 0: missing \['commit'\]"):
        _writer().sections(tmp_path)


@pytest.mark.slow  # .ci/run builds the site too, before the tests
@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="pip install -e '.[docs]'")
def test_the_site_builds_strictly(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    loaded = re.findall(
        r'(?:src|href)="(https?://[^"]+\.(?:js|css|woff2?))"', (tmp_path / "site/index.html").read_text()
    )
    assert not loaded


def test_the_performance_page_has_the_figures_that_a_benchmark_saves(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    file = tmp_path / "docs" / "results" / "benchmarks" / "packed_rows.json"
    monkeypatch.setattr(sys, "argv", [str(ROOT / "benchmarks" / "packing.py"), "--rows", "4", "--json", str(file)])
    for name in [name for name in os.environ if name.startswith(("MALLOC_", "OMP_", "MKL_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MALLOC_TOP_PAD_", "1024")
    importlib.import_module("figures").save(file, {"packed": {"ratio": [1.254, 1.0, 2.0], "tokens a second": 12345.6}})
    (tmp_path / "benchmarks").mkdir()
    shutil.copy(ROOT / "benchmarks" / "packing.py", tmp_path / "benchmarks")
    page = _writer().performance(tmp_path)
    assert "## Packed rows\n\nPacked rows against padded ones, and against groups" in page
    assert ": `MALLOC_TOP_PAD_=1024 python benchmarks/packing.py --rows 4`, " in page
    assert "| packed: ratio | 1.25 [1, 2] |\n| packed: tokens a second | 12,346 |\n" in page
