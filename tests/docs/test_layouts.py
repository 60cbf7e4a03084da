import re
from pathlib import Path

from nextgpt_pl.readers.layouts import LAYOUTS
from nextgpt_pl.readers.packed import PACKED

PAGE = Path(__file__).parent.parent.parent / "docs" / "recipes" / "data-set.md"


def test_the_table_of_layouts_has_each_layout_with_a_key_of_it_and_an_example():
    section = PAGE.read_text(encoding="utf-8").partition("## Published layouts")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \| `(.+?)` \|$", section, re.MULTILINE)
    assert [name for name, *_ in rows] == [layout.name for layout in LAYOUTS]
    for (name, _, keys, _), layout in zip(rows, LAYOUTS, strict=True):
        named = set(re.findall(r"`(\w+)`", keys.replace("X_", "image_")))
        of_set = frozenset().union(*(packed.needs for packed in PACKED))
        assert bool(named & (layout.known | of_set)) != name.endswith("without_header"), name
