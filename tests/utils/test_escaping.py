"""Captions, names and replies of others in every file that a browser, a Markdown reader or a spreadsheet interprets."""

import csv
import json
import re
from pathlib import Path

import pandas as pd
import pytest

from nextgpt_pl.errors import UserError
from nextgpt_pl.evaluation import records, report
from nextgpt_pl.evaluation.records import Prediction
from nextgpt_pl.pocket.pretrain import card
from nextgpt_pl.reports import Run
from nextgpt_pl.reports.document import Document, Heading, Medium, Table
from nextgpt_pl.reports.report import write_report
from nextgpt_pl.reports.samples import said
from nextgpt_pl.stages.sample_writer import write_captions
from nextgpt_pl.utils.escaping import Markdown, markdown, markdown_code, plain_cell, spreadsheet_cell
from nextgpt_pl.verbs import hub_folder

ROOT = Path(__file__).parent.parent.parent
HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "![x](http://a.example/p.png)",
    "[click](javascript:alert(1))",
    "https://a.example www.b.example",
    "a | b \\| c",
    "two\nlines\r\n# heading",
    "`code` ``` **bold** _emphasis_ ~~gone~~ $x$",
    "&lt;script&gt; &#60;b>",
    "\\<b\\>",
    "\u2028# heading",
)
ALL = " ".join(HOSTILE)


def _without_code(text):
    text = re.sub(r"(?ms)^```.*?^```", "", text)
    return re.sub(r"(?<![\\`])(`+)(?!`).*?(?<!`)\1(?!`)", "", text)


def _assert_tame(text):
    """No HTML, no links or pictures but our own, no more cells than the header has, no heading from elsewhere."""
    assert "<" not in text
    assert not re.search(r"(?<!\\)\]\((?!media/|report/|results\.png|curves\.png|https://arxiv)", text)
    assert "://a.example" not in text
    assert not re.search(r"(?m)^#+ heading", text)
    width = 0
    for line in text.splitlines():
        cells = len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) if line.startswith("|") else 0
        assert not (width and cells) or cells == width, line
        width = cells


@pytest.mark.parametrize("text", HOSTILE)
def test_a_reader_of_markdown_sees_the_text_itself(text):
    reader = pytest.importorskip("markdown_it").MarkdownIt("gfm-like", {"linkify": False})
    shown = " ".join(text.splitlines())
    for page in (markdown(text), f"| head |\n| --- |\n| {markdown(text)} |", f"# {markdown(text)}"):
        html = reader.render(page)
        assert not re.search(r"<(script|img|a|b|em|strong|s|code|h2)\b", html), html
        assert " ".join(_text(html).replace("head", "", page.startswith("|")).split()) == " ".join(shown.split())
    html = reader.render(f"| head |\n| --- |\n| {markdown_code(text)} |")
    assert "<script" not in html
    assert html.count("<td>") == 1


def _text(html):
    import html as escaping

    return escaping.unescape(re.sub(r"<[^>]*>", " ", html)).strip()


def test_what_is_markdown_already_is_left_alone():
    assert markdown(markdown(ALL)) == markdown(ALL)
    assert markdown(Markdown("**bold**")) == "**bold**"
    assert markdown("text->image relative_mse -0.5 ± 0.1") == "text->image relative_mse -0.5 ± 0.1"
    assert markdown_code("val/loss_text") == "`val/loss_text`"


@pytest.mark.parametrize(
    "cell", ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "  =cmd|' /C calc'!A0", "'=1", "''@x", "\uff1d1+1"]
)
def test_a_formula_is_marked_as_text_and_read_back(cell):
    written = spreadsheet_cell(cell)
    assert written[0] == "'"
    assert plain_cell(written) == cell


@pytest.mark.parametrize("cell", ["-0.5", "+3", "-1e-4", "-inf", "a = b", "", "'tis", "width=64", -0.5, 3, None])
def test_numbers_and_plain_text_stay_what_they_are(cell):
    assert spreadsheet_cell(cell) == cell
    assert cell is None or not isinstance(cell, str) or plain_cell(cell) == cell


def test_a_documents_blocks_are_tame(tmp_path):
    document = Document(ALL, tmp_path)
    table = Table((ALL, "b"), [(ALL, -0.5), (Medium(tmp_path / "x (y).png", ALL), ALL)])
    document.add(ALL, Heading(ALL), table, Medium(tmp_path / "media" / "y.png", ALL))
    page = document.write()
    text = (tmp_path / "index.md").read_text()
    assert "(x%20%28y%29.png)" in text
    _assert_tame(text.replace("](x%20%28y%29.png)", ""))
    assert "<script" not in page.read_text()


def test_a_quote_does_not_end_an_attribute(tmp_path):
    words = "x' onerror='alert(1)"
    document = Document("page", tmp_path)
    document.add(Medium(tmp_path / f"{words}.png", words), Medium(tmp_path / f"{words}.wav"))
    text = document.write().read_text()
    assert "' onerror" not in text
    assert text.count("x&#39; onerror=&#39;alert(1)") == 3


def test_an_evaluations_report_is_tame(tmp_path):
    prompt, parts = [{"type": "text", "text": ALL}], [{"type": "text", "text": ALL}]
    with (tmp_path / records.FILE).open("w") as file:
        records.write_line(Prediction(ALL, ALL, prompt, parts, [ALL], None, []), file)
    record = {"tasks": {ALL: {"items": 1, "scores": {}, "failed": {ALL: ALL}, "paper": {}}}}
    page = report.write(record, {ALL: ALL}, tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    _assert_tame(text)
    assert "<script" not in page.read_text()


def _run(folder, **settings):
    """A finished run folder with captions that were said at validation."""
    network = {"init_args": {"llm": {"init_args": {"path": settings.pop("path", "x")}}}}
    model = {"class_path": "nextgpt_pl.stages.DecoderAlignment", "init_args": {"network": network, **settings}}
    (folder / "adapter").mkdir(parents=True)
    (folder / "config.yaml").write_text(json.dumps({"seed_everything": 0, "model": model}))
    (folder / "adapter" / "manifest.json").write_text("{}")
    (folder / "metrics.csv").write_text("step,epoch,val/loss\n1,0,0.5\n")
    return folder


def test_a_report_of_runs_is_tame_and_its_tables_hold_no_formula(tmp_path):
    formulas = ("=cmd|' /C calc'!A0", "@SUM(A1)")
    runs = [_run(tmp_path / f"r{i}", init_from=formula, schedule=ALL + str(i)) for i, formula in enumerate(formulas)]
    for run in runs:
        write_captions(run / "samples" / "val_step_000001", [("=key", ALL, "+reference")] * 2, [], 1)
    out = tmp_path / "report"
    page = write_report([Run(run) for run in runs], out, title=ALL)
    text = (out / "index.md").read_text()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    _assert_tame(text)
    assert "<script" not in page.read_text()
    for name in ("groups.csv", "runs.csv"):
        with (out / name).open(newline="") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        assert any(cell.startswith("'=cmd") for cell in cells)
        assert not [cell for cell in cells if re.match(r"[=@+]|-[^0-9]", cell)]
        assert "0.5" in cells
        assert pd.read_csv(out / name).shape[0] == 2


def test_captions_are_one_line_each_and_read_back(tmp_path):
    run = _run(tmp_path / "run")
    written = [("=1+1", "+a\tb\nc", "-red"), ("key", "-0.5", "@x"), ("'k", ALL, "")]
    write_captions(run / "samples" / "val_step_000001", written, [], 1)
    lines = (run / "samples" / "val_step_000001" / "captions.tsv").read_text().split("\n")
    assert len(lines) == 5
    assert not [cell for line in lines[1:] for cell in line.split("\t") if re.match(r"[=@+]|-[^0-9]", cell)]
    found = [tuple(row[name] for name in ("key", "caption", "reference")) for row in said(Run(run))]
    assert found == [tuple(" ".join(t.replace("\t", " ").splitlines()) for t in row) for row in written]


def test_the_card_of_a_push_is_tame(tmp_path):
    run = _run(tmp_path / "run")
    manifest = {
        "nextgpt_pl": ALL,
        "stages": [ALL],
        "llm": {"path": ALL, "hidden_size": ALL, "vocab_size": 1, "lora": {"r": ALL, "target_modules": [ALL]}},
        "embedding_shapes": {ALL: [ALL]},
    }
    (run / "adapter" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="a dotted name is expected"):
        hub_folder.card(run, "me/model", {"init_args": {"network": {"init_args": {"encoder": {"class_path": ALL}}}}})
    network = {"init_args": {"decoders": {ALL: {"init_args": {"path": ALL}}}}}
    text = hub_folder.card(run, "me/model", {"init_args": {"network": network}})
    _assert_tame(_without_code(text.split("---\n")[2]))
    reader = pytest.importorskip("markdown_it").MarkdownIt("gfm-like", {"linkify": False})
    assert not re.search(r"<(script|img|b)\b", reader.render(text))


def test_the_pocket_card_is_tame(tmp_path):
    part = tmp_path / "weights" / card.POCKET_PARTS[0]
    part.mkdir(parents=True)
    for other in card.POCKET_PARTS[1:]:
        (tmp_path / "weights" / other).mkdir()
    card.write_quality(part, measured={ALL: 0.5}, trained={ALL: {"steps": 1, "seconds": 60}})
    card.write_card(tmp_path / "weights")
    _assert_tame(_without_code((tmp_path / "README.md").read_text()))


def test_no_other_module_writes_markdown_or_tables():
    """A new writer belongs into the tests above."""
    known = {
        "reports/document.py",  # index.md, report.md
        "reports/report.py",  # groups.csv, runs.csv
        "stages/sample_writer.py",  # captions.tsv
        "training/csv_log.py",  # metrics.csv, numbers
        "verbs/hub_folder.py",
        "pocket/pretrain/card.py",
    }
    writers = re.compile(r"""\.to_csv\(|csv\.(Dict)?[wW]riter|to_markdown|["'|] ---|\.(md|tsv)["']\)?(,|\.write)""")
    found = set()
    for file in (ROOT / "nextgpt_pl").rglob("*.py"):
        text = file.read_text()
        if writers.search(text):
            found.add(file.relative_to(ROOT / "nextgpt_pl").as_posix())
    assert found <= known
    assert {"reports/document.py", "reports/report.py"} <= found


def test_a_bar_behind_a_backslash_ends_no_cell_of_a_table():
    shown = markdown_code("a\\|<img src=x>|b")
    assert shown == "a\\\\\\|&lt;img src=x&gt;\\|b"
    # how GitHub's parser finds the end of a cell
    assert re.fullmatch(r"(\\[!-/:-@\[-`{-~]|[^|\r\n])+", shown)
    assert re.fullmatch(r"(\\[!-/:-@\[-`{-~]|[^|\r\n])+", markdown_code("a|b\\c"))
