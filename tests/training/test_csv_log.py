import csv

import pytest

from nextgpt_pl.training.csv_log import METRICS, RunLog, keep_rows


def _rows(folder):
    with (folder / METRICS).open(newline="") as file:
        return [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]


def _logged(folder, *rows, until_step=0):
    log = RunLog(folder, until_step)
    for step, values in rows:
        log.log_metrics(values, step)
        log.save()
    return log


def test_a_resumed_log_goes_on_at_its_step(tmp_path):
    _logged(tmp_path, (0, {"a": 1.0}), (1, {"a": 2.0}), (2, {"a": 3.0}))
    with (tmp_path / METRICS).open("a") as file:
        file.write("17.5")  # a row of a killed process
    _logged(tmp_path, (2, {"a": 4.0, "b": 5.0}), until_step=2)
    rows = [{"a": "1.0", "step": "0"}, {"a": "2.0", "step": "1"}, {"a": "4.0", "b": "5.0", "step": "2"}]
    assert _rows(tmp_path) == rows


def test_a_new_run_begins_a_new_log(tmp_path):
    _logged(tmp_path, (0, {"a": 1.0}))
    _logged(tmp_path, (0, {"a": 2.0}))
    assert _rows(tmp_path) == [{"a": "2.0", "step": "0"}]


def _with_a_new_column(log, _folder):
    log.log_metrics({"new": 1.0}, 2)
    log.save()


def _from_the_first_step(_log, folder):
    keep_rows(folder / METRICS, 1)


@pytest.mark.parametrize("replace", [_with_a_new_column, _from_the_first_step])
def test_the_rows_survive_a_failure_while_the_file_is_replaced(replace, tmp_path, monkeypatch):
    log = _logged(tmp_path, (0, {"a": 1.0}), (1, {"a": 2.0}))
    before = (tmp_path / METRICS).read_bytes()

    def fails(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(csv.DictWriter, "writerows", fails)
    with pytest.raises(KeyboardInterrupt):
        replace(log, tmp_path)
    assert (tmp_path / METRICS).read_bytes() == before


def test_a_row_that_was_written_before_its_checkpoint_is_not_written_again(tmp_path):
    log = RunLog(tmp_path)
    log.log_early({"a": 1.0}, 0)
    assert _rows(tmp_path) == [{"a": "1.0", "step": "0"}]
    for row in ((0, {"a": 1.0}), (0, {"b": 2.0}), (1, {"a": 1.0})):
        log.log_metrics(row[1], row[0])
    log.save()
    assert [(row["step"], "a" in row) for row in _rows(tmp_path)] == [("0", True), ("0", False), ("1", True)]


def test_damaged_rows_of_the_log_of_a_resumed_run_are_dropped(tmp_path):
    file = tmp_path / "metrics.csv"
    damaged = b"x,0.5\n\xff\xfe,1\n2,0.25,7\n,3\none\rtwo,1\n"
    file.write_bytes(b"step,loss\n0,1.0\n" + damaged + b"1,0.5\n3,0.125\n4")
    with pytest.warns(UserWarning, match=r"metrics\.csv: 6 damaged rows are dropped"):
        keep_rows(file, until_step=3)
    assert file.read_text().split() == ["step,loss", "0,1.0", "1,0.5"]
