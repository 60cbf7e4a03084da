"""Tests of what the framework supports: each passed test is a cell of the table in ``docs/support.md``.

A test is marked ``@pytest.mark.support("decoders", "equal to pipeline(prompt)")``, with the table and the column, and
parametrized by ``name``, which is the row. ``python docs/write_support.py`` runs them all and writes the page.
"""

import json
import os
from pathlib import Path

import pytest

_PROPERTY = "support"


@pytest.fixture(autouse=True)
def _cell(request, record_property):
    marker = request.node.get_closest_marker(_PROPERTY)
    if marker:
        table, column = marker.args
        record_property(_PROPERTY, [table, request.node.callspec.params["name"], column])


def pytest_terminal_summary(terminalreporter):
    """Write the cells of all passed tests to the file that ``write_support.py`` asks for."""
    target = os.environ.get("NEXTGPT_SUPPORT_CELLS")
    if not target:
        return
    passed = terminalreporter.stats.get("passed", [])
    cells = [value for report in passed for key, value in report.user_properties if key == _PROPERTY]
    Path(target).write_text(json.dumps(sorted(cells)), encoding="utf-8")


@pytest.fixture(scope="session")
def families(tmp_path_factory, tiny_models):
    """The folder of an LLM family's tiny instance, by its name."""
    from saved_llms import folder_of

    root = tmp_path_factory.mktemp("families")
    return lambda name: folder_of(name, root, tiny_models / "encoder")
