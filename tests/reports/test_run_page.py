import re
from types import SimpleNamespace

import pytest

from nextgpt_pl.reports import Run
from nextgpt_pl.reports.run_page import final_validation, write_run_page
from nextgpt_pl.verbs import training
from nextgpt_pl.verbs.training import print_results


def test_the_page_holds_values_curves_and_samples(make_run, add_samples):
    folder = make_run("dec_align/x", error=0.25)
    add_samples(folder, ["a <b>red</b> circle", "a blue star"])
    page = write_run_page(Run(folder))
    assert page == folder / "index.html"
    text = page.read_text()
    assert "<td>val/relative_mse_image</td><td>0.25</td>" in text
    assert "<td>samples per second</td><td>37.5</td>" in text
    assert "<td>a &lt;b&gt;red&lt;/b&gt; circle</td>" in text
    assert "<b>red" not in text
    sources = re.findall(r"src=['\"]([^'\"]+)['\"]", text)
    assert sources.count("curves.png") == 1
    # samples stay where they are and are not copied
    assert [s for s in sources if s.startswith("samples/val_step_000020/image_")]
    assert all((folder / source).is_file() for source in sources)
    assert not (folder / "media").exists()


def test_the_end_of_a_training_prints_the_last_values_and_the_page(make_run, capsys):
    folder = make_run("dec_align/x", error=0.25)
    assert final_validation(Run(folder)) == {"val/loss": 1.5, "val/relative_mse_image": 0.25}
    print_results(folder)
    printed = capsys.readouterr().out.splitlines()
    assert [line.split() for line in printed] == [
        ["final", "validation:"],
        ["val/loss", "1.5"],
        ["val/relative_mse_image", "0.25"],
        ["page:", str(folder / "index.html")],
    ]


def test_nothing_is_printed_or_written_without_metrics(make_run, capsys):
    folder = make_run("dec_align/x")
    (folder / "metrics.csv").unlink()
    print_results(folder)
    (folder / "metrics.csv").write_text("data/train_rows_used,step\n12,0\n")
    print_results(folder)
    assert capsys.readouterr() == ("", "")
    assert not list(folder.glob("index.*"))


def test_a_page_that_cannot_be_written_is_reported(make_run, capsys):
    folder = make_run("dec_align/x")
    (folder / "index.html").mkdir()
    print_results(folder)
    out, err = capsys.readouterr()
    assert "val/loss" in out
    assert "page:" not in out
    assert f"{folder}: the page could not be written: " in err


@pytest.mark.parametrize(("verb", "first", "pages"), [("fit", True, 1), ("fit", False, 0), ("validate", True, 0)])
def test_only_the_first_rank_of_a_fit_writes_the_page(make_run, monkeypatch, verb, first, pages):
    folder = make_run("dec_align/x")
    trainer = SimpleNamespace(strategy=SimpleNamespace(launcher=None))
    monkeypatch.setattr(
        training, "parsed", lambda *_: SimpleNamespace(run_folder=folder, subcommand=verb, trainer=trainer)
    )
    monkeypatch.setattr(training, "first_process", lambda: first)
    assert training.run([verb]) == 0
    assert len(list(folder.glob("index.html"))) == pages
