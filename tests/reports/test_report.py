import csv
import re

import pytest

from nextgpt_pl.__main__ import main

WIDTH = "model.init_args.network.init_args.output_projection.init_args.width"


@pytest.fixture
def folder(make_run, add_samples, tmp_path):
    for width in (64, 128):
        for seed in (0, 1):
            run = make_run(f"w/{width}-{seed}", {WIDTH: width, "seed_everything": seed}, error=width / 1000 + seed / 10)
            if seed == 1:
                add_samples(run, ["a <b> | c", "d"] if width == 64 else ["d"], colour=width)
    make_run("w/cut", finished=False)
    return tmp_path / "outputs"


def test_a_report_as_markdown_html_and_csv(folder, tmp_path, capsys):
    out = tmp_path / "report"
    assert main(["report", str(folder), "--out", str(out), "--title", "Widths"]) == 0
    assert str(out / "index.html") in capsys.readouterr().out
    text = (out / "index.md").read_text()
    assert text.startswith("# Widths\n\n4 runs of DecoderAlignment in 2 configurations. They differ in width.")
    assert "| width | runs | val/relative_mse_image |" in text
    assert "| 64 | 2 | 0.114 ± 0.071 |" in text
    assert "Left out, since they did not finish: w/cut." in text
    assert "## Speed\n\n| run | samples_per_second |" in text
    assert "| w/64-0 | 37.5 |" in text
    # a caption that only one has; what would end a cell is escaped
    assert re.search(r"\| a &lt;b&gt; \\\| c \| !\[.*?\]\(media/.*?\) \| !\[.*?\]\(media/.*?\) \| - \|", text)
    assert "| k0 | a &lt;b&gt; \\| c | said a &lt;b&gt; \\| c | said d |" in text
    page = (out / "index.html").read_text()
    assert "a &lt;b&gt; | c" in page
    assert "<b>" not in page
    sources = re.findall(r"src='([^']+)'", page)
    assert len(sources) == 7  # two figures, one row of two media, one of three
    assert all((out / source).is_file() for source in sources)
    # nothing is fetched from elsewhere
    assert "http" not in page
    with (out / "groups.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["val/relative_mse_image mean"]) for row in rows] == pytest.approx([0.114, 0.178])
    assert len((out / "runs.csv").read_text().splitlines()) == 5


def test_metrics_can_be_chosen(folder, tmp_path, capsys):
    out = tmp_path / "report"
    assert main(["report", str(folder), "--out", str(out), "--metrics", "val/loss,train/*"]) == 0
    assert "| width | runs | val/loss | train/loss |" in (out / "index.md").read_text()
    assert main(["report", str(folder), "--out", str(out), "--metrics", "vla"]) == 2
    assert "no run logged 'vla'" in capsys.readouterr().err


def test_nothing_finished_is_said(make_run, tmp_path, capsys):
    run = make_run("w/cut", finished=False)
    assert main(["report", str(run), "--out", str(tmp_path / "r")]) == 2
    assert "none of the 1 runs finished" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()
