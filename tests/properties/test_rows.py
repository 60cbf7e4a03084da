"""Whatever a data file holds: each row is read, or named and counted; the rows beside it are read in any case."""

import csv
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from exploring import exploration, outcome
from hypothesis import strategies as st
from mutations import DAMAGES, ROW_TEXTS, ROW_VALUES, damaged, json_text, mutated
from PIL import Image

from nextgpt_pl.datamodules import Alpaca, DataFiles, OfficialDialogues, OfficialJSON
from nextgpt_pl.datamodules.check import files_of
from nextgpt_pl.datamodules.rows import load_embedding
from nextgpt_pl.errors import UserError
from nextgpt_pl.media.reading import check_readable

TURNS = [{"from": "human", "value": "Draw <image>"}, {"from": "gpt", "value": "Here it is."}]
ROWS = [
    {"image_name": "a.png", "caption": "a star"},
    {"input_image": "a.png", "conversations": TURNS},
    {"output_image": ["a.png"], "image_captions": ["a star"], "conversations": TURNS},
    {"output_image": "a.png", "image_captions": "a star", "image_caption_embeddings": "a.npy", "conversations": TURNS},
    {"instruction": "Say hello.", "input": "loudly", "output": "Hello!"},
    {
        "messages": [
            {"role": "user", "content": [{"type": "image", "image": "a.png"}, {"type": "text", "text": "What is it?"}]},
            {"role": "assistant", "content": "A circle."},
        ]
    },
    {
        "messages": [{"role": "user", "content": "<image>What?"}, {"role": "assistant", "content": "It."}],
        "images": ["a.png"],
    },
    {"file_name": "a.png", "caption_1": "one", "caption_2": "two"},
    {"question": "What is it?", "answer": "a circle", "image": "a.png"},
    {"filename": "a.png", "sentences": [{"raw": "A circle."}], "split": "train"},
]
PAIR = {"file": "a.png", "caption": "a red star"}
SOURCES = st.sampled_from([DataFiles, OfficialJSON, OfficialDialogues, Alpaca])


@pytest.fixture
def data(canary):
    """A folder of data with media, links out of it and to themselves."""
    folder = canary / "data"
    (folder / "images").mkdir(parents=True)
    (folder / "embed").mkdir()
    Image.new("RGB", (8, 6), "red").save(folder / "images" / "a.png")
    np.save(folder / "embed" / "a.npy", np.ones((2, 3), np.float32))
    (canary / "outside.png").write_bytes((folder / "images" / "a.png").read_bytes())
    (folder / "images" / "link.png").symlink_to(canary / "outside.png")
    (folder / "images" / "loop.png").symlink_to("loop.png")
    (folder / "images" / "folder.png").mkdir()
    return folder


def _used(folder, name, source=DataFiles, on_error="raise"):
    """All items of a file with their media and embeddings; what cannot be read of them is named by an error of ours."""
    items = list(source(folder, [name], on_error=on_error).read("train"))
    for item in items:
        for medium in files_of(item):
            outcome(check_readable, medium)
            path = medium.source if isinstance(medium.source, Path) else medium.source.path
            assert path is None or path.is_relative_to(folder)  # None: it is in the row
        embedding = getattr(item, "caption_embedding", None)
        if embedding is not None:
            outcome(load_embedding, embedding)
    return items


@exploration(few=12, many=300)
def test_a_row_is_used_or_named(explore, data):
    def read(rows, source):
        (data / "rows.json").write_text(json_text(rows))
        for on_error in ("skip", "raise"):
            said = outcome(_used, data, "rows.json", source, on_error, names=("rows.json", "used 0 of 0"))
        return said

    rows = st.one_of(st.lists(mutated(ROWS, ROW_VALUES), max_size=3), ROW_VALUES)
    explore(read, rows=rows, source=SOURCES)


def _captions(items):
    return [item.caption for item in items]


@exploration(few=8, many=250)
def test_a_broken_line_costs_no_other(explore, data):
    """JSON Lines; a damage may contain line ends, so the lines around it are what must be read."""

    def read(line):
        around = [json.dumps({**PAIR, "caption": name}).encode() for name in ("first", "second", "last")]
        (data / "rows.jsonl").write_bytes(b"\n".join([*around[:2], line, around[2]]) + b"\n")
        captions = _captions(_used(data, "rows.jsonl", on_error="skip"))
        assert captions[:2] == ["first", "second"]
        assert captions[-1] == "last"
        return "refused" if len(captions) == 3 else "right"

    whole = json.dumps(PAIR).encode()
    lines = st.one_of(
        mutated([PAIR], ROW_VALUES).map(lambda row: json_text(row).encode()),
        DAMAGES.map(lambda damages: damaged(whole, damages)),
        ROW_VALUES.map(lambda value: json_text(value).encode()),
    )
    explore(read, line=lines)


def _table(folder, ending):
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t" if ending == "tsv" else ",")
    writer.writerows([["file", "caption"], *(["a.png", f'a "red", star {n}'] for n in range(5))])
    return text.getvalue().encode()


def _tar(folder, ending):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for number in range(3):
            image = (folder / "images" / "a.png").read_bytes()
            text = json.dumps({"caption": "a star"}).encode()
            for name, content in ((f"{number}.png", image), (f"{number}.json", text)):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def _columns(folder, ending):
    image = {"bytes": (folder / "images" / "a.png").read_bytes(), "path": "a.png"}
    table = pa.table({"image": [image] * 3, "caption": ["one", "two", "three"]})
    sink = io.BytesIO()
    if ending == "parquet":
        pq.write_table(table, sink)
    else:
        with (pa.ipc.new_file if ending == "arrow" else pa.ipc.new_stream)(sink, table.schema) as writer:
            writer.write_table(table)
    return sink.getvalue()


def _compressed(folder, ending):
    import bz2
    import gzip
    import lzma

    text = b"\n".join(json.dumps({**PAIR, "caption": str(n)}).encode() for n in range(200))
    return {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "json": lambda data: data}[ending](text)


FORMATS = {
    "csv": _table,
    "tsv": _table,
    "tar": _tar,
    "parquet": _columns,
    "arrow": _columns,
    "stream": _columns,
    "gz": _compressed,
    "bz2": _compressed,
    "xz": _compressed,
    "json": _compressed,
}


@exploration(few=10, many=400)
def test_a_damaged_file_is_read_as_far_as_it_goes(explore, data):
    whole = {ending: write(data, ending) for ending, write in FORMATS.items()}
    for ending, content in whole.items():
        (data / f"rows.{ending}").write_bytes(content)
        assert len(_used(data, f"rows.{ending}")) >= 3, ending

    def read(ending, damages):
        content = damaged(whole[ending], damages)
        (data / f"rows.{ending}").write_bytes(content)
        said = outcome(_used, data, f"rows.{ending}", names=(f"rows.{ending}",))
        skipped = outcome(_used, data, f"rows.{ending}", DataFiles, "skip", names=(f"rows.{ending}",))
        assert said == "refused" or skipped == "right"
        return said

    explore(read, ending=st.sampled_from(sorted(FORMATS)), damages=DAMAGES)


@exploration(few=6, many=150)
def test_a_cell_of_a_table_is_used_or_named(explore, data):
    def read(cells):
        with (data / "rows.csv").open("w", newline="", encoding="utf-8", errors="surrogatepass") as file:
            csv.writer(file).writerows([["file", "caption"], cells, ["a.png", "last"]])
        captions = _captions(_used(data, "rows.csv", on_error="skip"))
        assert captions[-1] == "last"
        return "refused" if len(captions) == 1 else "right"

    cell = st.one_of(ROW_TEXTS.filter(lambda text: "\ud800" not in text), st.text(max_size=5), st.just("a.png"))
    explore(read, cells=st.lists(cell, min_size=1, max_size=3))


def test_strategies_reach_every_refusal(data):
    """A name that leaves the folder is refused, so the check on the folders of media is no empty one."""
    (data / "rows.json").write_text(json.dumps([{"file": "link.png", "caption": "x"}]))
    with pytest.raises(UserError, match="leaves its folder"):
        _used(data, "rows.json")
