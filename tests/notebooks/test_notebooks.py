"""Notebooks are stripped, thin, and run from the first cell to the last on small runs."""

from pathlib import Path

import pytest

from nextgpt_pl.__main__ import main

nbformat = pytest.importorskip("nbformat")
ROOT = Path(__file__).parent.parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TINY = [
    "--trainer.max_steps=2",
    "--trainer.val_check_interval=1",
    "--trainer.limit_val_batches=1",
    "--data.batch_size=4",
    "--data.val_batch_size=12",
    "--data.init_args.sources.init_args.train_size=8",
]

every_notebook = pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda p: p.stem)


def _cells(file, kind="code"):
    return [cell for cell in nbformat.read(file, as_version=4).cells if cell.cell_type == kind]


def test_all_are_there():
    named = {file.stem for file in NOTEBOOKS}
    assert named == {"training_curves", "projection_size", "gallery", "attribute_errors"}
    listed = (ROOT / "notebooks" / "README.md").read_text()
    assert all(f"`{name}.ipynb`" in listed for name in named)


@every_notebook
def test_a_notebook_is_stripped_and_thin(file):
    nbformat.validate(nbformat.read(file, as_version=4))
    cells = _cells(file)
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)
    assert cells[0].metadata["tags"] == ["parameters"]
    assert sum(len(cell.source.splitlines()) for cell in cells) < 60
    # what does something worth testing is in the package
    assert not any(line.startswith(("def ", "class ")) for cell in cells for line in cell.source.splitlines())


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """A short run of each stage, and of two widths."""
    folder = tmp_path_factory.mktemp("runs") / "outputs"
    samples = {"enc_align": [], "dec_align": ["--model.samples=2"], "instruct": ["--model.samples=0"]}
    for stage, more in samples.items():
        _fit(stage, f"--run.root={folder}", *more)
    for width in (8, 16):
        arguments = [f"--model.network.output_projection.init_args.width={width}", "--model.samples=0"]
        _fit("dec_align", f"--run.root={folder}", "--run.experiment=widths", *arguments)
    return folder


def _fit(stage, *arguments):
    tiny = [argument for argument in TINY if stage != "instruct" or "limit_val" not in argument]
    more = ["--data.init_args.sources.init_args.val_size=4"] if stage != "instruct" else []
    file = ROOT / "experiments" / f"{stage}.yaml"
    assert main(["fit", "-c", str(file), *tiny, *more, *arguments]) == 0


def _outputs(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


@pytest.mark.slow
@pytest.mark.timeout(900)
@every_notebook
def test_a_notebook_runs(file, outputs, tmp_path, monkeypatch):
    client = pytest.importorskip("nbclient")
    place = {"projection_size": "widths", "gallery": "instruct", "attribute_errors": "dec_align"}.get(file.stem, "")
    for name in ("NEXTGPT_RUN", "NEXTGPT_RUNS"):
        monkeypatch.setenv(name, str(outputs / place))
    monkeypatch.setenv("NEXTGPT_OUT", str(tmp_path / "gallery"))
    monkeypatch.setenv("NEXTGPT_COUNT", "2")
    notebook = nbformat.read(file, as_version=4)
    resources = {"metadata": {"path": str(file.parent)}}
    client.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
    found = _outputs(notebook)
    assert not [output for output in found if output.output_type == "error"]
    shown = [output.data for output in found if "data" in output]
    assert any("image/png" in data or "data:image/png" in data.get("text/html", "") for data in shown)
