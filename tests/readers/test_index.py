import json

import numpy as np
import pytest

from nextgpt_pl.readers import index
from nextgpt_pl.readers.index import Entry


def _entries():
    """Rows with no, one and several items, and broken ones."""
    for number in range(40):
        hold, row = 2**64 - 1 - number, json.dumps({"number": number}).encode()
        if number % 5 == 3:
            missing = "gone.png" if number % 2 else None
            yield Entry(None if number % 2 else row, number % 3, number, hold, (), f"fault {number}", missing, 1)
        else:
            remark = f"remark {number % 2}" if number % 7 == 0 else None
            yield Entry(row, number % 3, number, hold, [5] * (number % 4), None, None, 2, remark)


@pytest.mark.parametrize("size", [1, 3, 16_384])
@pytest.mark.parametrize("on_disk", [False, True])
def test_all_entries_are_in_the_index(tmp_path, monkeypatch, size, on_disk):
    monkeypatch.setattr(index, "_BATCH", size)
    rows = index.on_disk(tmp_path / "rows", {}, _entries) if on_disk else index.in_memory(_entries())
    entries = list(_entries())
    items = [(e, item) for e in entries if e.fault is None for item in range(len(e.kinds))]
    assert len(rows) == len(items) == len(rows.column("kind"))
    for position, (entry, item) in enumerate(items):
        assert rows.row(position) == (json.loads(entry.row), entry.file, entry.number, item)
    columns = {name: rows.column(name).tolist() for name in ("file", "number", "hold", "side", "item", "kind")}
    assert list(zip(*columns.values(), strict=True)) == [(e.file, e.number, e.hold, e.side, i, 5) for e, i in items]
    broken = [entry for entry in entries if entry.fault is not None]
    assert [rows.fault(i) for i in range(len(broken))] == [
        (entry.file, entry.number, entry.row is not None, entry.fault) for entry in broken
    ]
    assert rows.broken("missing").tolist() == [entry.missing for entry in broken]
    assert rows.remarks == {"remark 0": 2, "remark 1": 3}


def test_an_index_without_entries_has_no_rows():
    rows = index.in_memory(())
    assert len(rows) == 0
    assert not rows.remarks
    assert rows.column("hold").shape == rows.broken("hold").shape == np.zeros(0).shape
