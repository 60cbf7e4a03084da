import bz2
import codecs
import gzip
import io
import json
import lzma
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from nextgpt_pl.errors import UserError
from nextgpt_pl.features.keys import media_key
from nextgpt_pl.media.reading import array_of
from nextgpt_pl.modality import Modality
from nextgpt_pl.readers import formats, json_rows
from nextgpt_pl.readers.formats import format_of, rows_of
from nextgpt_pl.readers.place import Place
from nextgpt_pl.samples import Media

ROWS = [{"caption": "a red ball", "n": 1}, {"caption": "größer", "n": 2}, {"caption": "U+2028: \u2028 stays", "n": 3}]


def _lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _zstd(data):
    return pa.compress(data, codec="zstd", asbytes=True)


TEXTS = {
    "JSON Lines": _lines(ROWS),
    "JSON list": json.dumps(ROWS, ensure_ascii=False, indent=1),
    "JSON object": json.dumps({"rows": ROWS}, ensure_ascii=False, indent=1),
}


@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize("name", TEXTS)
def test_a_format_is_recognised_by_content_with_or_without_a_bom(tmp_path, name, bom):
    file = tmp_path / "rows.data"
    file.write_text(bom + TEXTS[name], encoding="utf-8")
    assert format_of(file).name == name
    rows = list(rows_of(file))
    assert (rows[0]["rows"] if name == "JSON object" else rows) == ROWS


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress, _zstd])
def test_compressed_files_are_read(tmp_path, compress):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(compress(_lines(ROWS).encode()))
    assert list(rows_of(file)) == ROWS


def test_a_cut_compressed_file_gives_an_error_and_no_traceback(tmp_path):
    file = tmp_path / "rows.jsonl.gz"
    file.write_bytes(gzip.compress(_lines(ROWS * 1000).encode())[:200])
    assert isinstance(list(rows_of(file))[-1], UserError)


@pytest.mark.parametrize("block", [1, 7, 64])
def test_a_list_is_read_in_blocks_of_any_size(tmp_path, monkeypatch, block):
    monkeypatch.setattr(json_rows, "_BLOCK", block)
    rows = [*ROWS, 12, 345, "text, with ] and [", None, [1, [2]], {}]
    file = tmp_path / "rows.json"
    file.write_text(json.dumps(rows, ensure_ascii=False, indent=2), encoding="utf-8")
    assert list(rows_of(file)) == rows


def test_what_is_behind_a_damaged_place_of_a_list_is_reported(tmp_path):
    file = tmp_path / "rows.json"
    file.write_text('[{"a": 1}, {"a": 2}, {"a": ')
    *rows, error = rows_of(file)
    assert rows == [{"a": 1}, {"a": 2}]
    assert "row 2: unreadable JSON" in str(error)
    assert "the rest of the list is not read" in str(error)


def test_rows_of_a_list_that_are_too_deep_or_have_too_long_numbers_are_named_and_the_others_read(tmp_path):
    file = tmp_path / "rows.json"
    deep, number = '{"a": ' + "[" * 50_000 + "]" * 50_000 + "}", "9" * 5000
    file.write_text(f'[{{"a": 1}}, {deep}, {{"b": "]", "a": {number}}}, {number}, {{"a": 2}}, {number}]')
    rows = list(rows_of(file))
    assert [row for row in rows if isinstance(row, dict)] == [{"a": 1}, {"a": 2}]
    errors = [str(row) for row in rows if isinstance(row, UserError)]
    assert [error.split(":")[0] for error in errors] == ["row 1", "row 2", "row 3", "row 5"]
    assert "recursion" in errors[0]
    assert all("4300 digits" in error for error in errors[1:])


@pytest.mark.parametrize("bom", [b"", codecs.BOM_UTF8])
def test_lines_whose_first_is_long_are_lines(tmp_path, bom):
    file = tmp_path / "rows.jsonl"
    rows = [{"a": "x" * 100_000}, {"a": "y"}]
    file.write_bytes(bom + _lines(rows).encode())
    assert list(rows_of(file)) == rows


def test_a_field_that_is_too_long_costs_its_line_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "_MAX_FIELD", 100)
    file = tmp_path / "rows.csv"
    file.write_text("a,b\n1,2\n" + "x" * 200 + ",2\n3,4\n")
    first, error, last = rows_of(file)
    assert (first, last) == ({"a": "1", "b": "2"}, {"a": "3", "b": "4"})
    assert str(error) == "line 3: field larger than field limit (100)"


def test_damaged_lines_are_named_and_the_others_read(tmp_path):
    file = tmp_path / "rows.jsonl"
    deep = "[" * 100_000
    file.write_bytes(
        b'{"a": 1}\n\n{"a": \n' + b'{"a": "\xe9"}\n{"a": ' + b"9" * 5000 + b'}\n{"a": ' + deep.encode() + b"}\n{}\n"
    )
    rows = list(rows_of(file))
    assert (rows[0], rows[-1]) == ({"a": 1}, {})
    messages = [str(row) for row in rows[1:-1]]
    assert [m.split(":")[0] for m in messages] == ["line 3", "line 4", "line 5", "line 6"]
    assert "byte 0xe9 is not UTF-8" in messages[1]


@pytest.mark.parametrize(
    ("encoding", "message"), [("latin-1", "byte 0xe4 is not UTF-8"), ("utf-16", "the file is UTF-16")]
)
def test_another_encoding_is_named_with_a_remedy(tmp_path, encoding, message):
    file = tmp_path / "rows.csv"
    file.write_text("file_name,text\n0.jpg,Bär\n", encoding=encoding)
    errors = [str(row) for row in rows_of(file) if isinstance(row, UserError)]
    assert len(errors) == 1
    assert message in errors[0]
    assert "iconv" in errors[0]


CAPTIONS = "a red ball\thttp://e.org/0.jpg\nblue\thttp://e.org/1.jpg\n"
PIPES = "image_name| comment_number| comment\n1.jpg| 0| A dog .\n"


@pytest.mark.parametrize(
    ("text", "names", "rows"),
    [
        ('a,b\n1,"x, y"\n2,"two\nlines"\n', "a b", [["1", "x, y"], ["2", "two\nlines"]]),
        ('a\tb\n1\t"quoted" word\n', "a b", [["1", '"quoted" word']]),
        (CAPTIONS, "0 1", [["a red ball", "http://e.org/0.jpg"], ["blue", "http://e.org/1.jpg"]]),
        (PIPES, "image_name comment_number comment", [["1.jpg", "0", "A dog ."]]),
        ("1,abc,30,a hum\n2,def,0,a bell\n", "0 1 2 3", [["1", "abc", "30", "a hum"], ["2", "def", "0", "a bell"]]),
    ],
)
def test_tables(tmp_path, text, names, rows):
    file = tmp_path / "table"
    file.write_text(text)
    assert list(rows_of(file)) == [dict(zip(names.split(), row, strict=True)) for row in rows]


def test_a_line_with_too_few_fields_is_named(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("a,b\n1,2\n3\n4,5\n")
    rows = list(rows_of(file))
    assert rows[::2] == [{"a": "1", "b": "2"}, {"a": "4", "b": "5"}]
    assert str(rows[1]) == "line 3: 1 fields, 2 columns are expected"


@pytest.mark.parametrize("content", [b"", b" \n"])
def test_an_empty_file_is_an_error(tmp_path, content):
    file = tmp_path / "x.json"
    file.write_bytes(content)
    assert [str(row) for row in rows_of(file)] == ["the file is empty"]


def _png(shade):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), (shade, 0, 0)).save(buffer, "png")
    return buffer.getvalue()


def _table():
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = [{"bytes": _png(i), "path": f"{i}.png"} for i in range(5)]
    return pa.table(
        {
            "image": pa.array(images, struct),
            "images": pa.array([images[:i] for i in range(5)], pa.list_(struct)),
            "raw": pa.array([_png(100 + i) for i in range(5)]),
            "text": [f"number {i}" for i in range(5)],
        }
    )


def _parquet(file):
    pq.write_table(_table(), file, row_group_size=2)


def _arrow_file(file):
    with pa.ipc.new_file(file, _table().schema) as writer:
        writer.write_table(_table(), max_chunksize=2)


def _arrow_stream(file):
    with pa.ipc.new_stream(file, _table().schema) as writer:
        writer.write_table(_table(), max_chunksize=2)


@pytest.mark.parametrize("write", [_parquet, _arrow_file, _arrow_stream])
def test_media_in_cells_stay_in_the_file_until_they_are_read(tmp_path, write):
    file = tmp_path / "rows"
    write(str(file))
    rows = list(rows_of(file))
    assert [row["text"] for row in rows] == [f"number {i}" for i in range(5)]
    assert b"PNG" not in json.dumps(rows).encode()
    place = Place(file, tmp_path)
    for i, row in enumerate(rows):
        shades = {"image": i, "raw": 100 + i}
        for column, shade in shades.items():
            array, _ = array_of(place.media(Modality.IMAGE, row[column]))
            assert array[0, 0].tolist() == [shade, 0, 0]
        nested = [array_of(place.media(Modality.IMAGE, value))[0][0, 0, 0] for value in row["images"]]
        assert nested == list(range(i))


def _shard(file, members):
    with tarfile.open(file, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def test_samples_of_a_shard(tmp_path):
    file = tmp_path / "00000.tar"
    members = [("__MACOSX/0.jpg", b"x"), ("._0.png", b"x")]
    for i in range(3):
        described = json.dumps({"caption": f"c{i}", "status": "success"}).encode()
        members += [(f"a/{i}.png", _png(i)), (f"a/{i}.txt", f"text {i}\n".encode()), (f"a/{i}.json", described)]
    _shard(file, members)
    rows = list(rows_of(file))
    assert [(r["__key__"], r["txt"], r["caption"]) for r in rows] == [
        (f"a/{i}", f"text {i}", f"c{i}") for i in range(3)
    ]
    place = Place(file, tmp_path)
    medium = place.media(Modality.IMAGE, rows[2]["png"])
    assert array_of(medium)[0][0, 0].tolist() == [2, 0, 0]
    # the same content in a file of its own has the same key, so its features are found
    (tmp_path / "own.png").write_bytes(_png(2))
    assert media_key(medium) == media_key(Media(Modality.IMAGE, tmp_path / "own.png"))


def test_a_damaged_shard_gives_its_whole_samples_and_an_error(tmp_path):
    file = tmp_path / "x.tar"
    _shard(file, [(f"{i}.txt", b"word " * 400) for i in range(4)])
    file.write_bytes(file.read_bytes()[:5000])
    rows = list(rows_of(file))
    assert isinstance(rows[-1], UserError)
    assert [row["__key__"] for row in rows[:-1]] == ["0"]


def test_a_shard_with_a_negative_size_ends(tmp_path):
    file = tmp_path / "x.tar"
    _shard(file, [(f"{i}.txt", b"word") for i in range(3)])
    data = bytearray(file.read_bytes())
    header = slice(1024, 1536)  # of the second member
    data[1024 + 124 : 1024 + 136] = b"\xff" * 10 + (-512 % 2**16).to_bytes(2, "big")
    data[1024 + 148 : 1024 + 156] = b" " * 8
    data[1024 + 148 : 1024 + 156] = b"%06o\0 " % sum(data[header])
    file.write_bytes(data)
    first, error = rows_of(file)
    assert first["__key__"] == "0"
    assert "1.txt has a size of -512 bytes" in str(error)


def test_an_arrow_file_with_damaged_offsets_does_not_end_the_process(tmp_path):
    table = pa.table({"caption": ["one", "two", "three"]})
    for name, new in (("file", pa.ipc.new_file), ("stream", pa.ipc.new_stream)):
        sink = io.BytesIO()
        with new(sink, table.schema) as writer:
            writer.write_table(table)
        offsets = np.array([0, 3, 6, 11], np.int32)
        damaged = sink.getvalue().replace(offsets.tobytes(), np.array([0, 2**30, 6, 11], np.int32).tobytes())
        assert damaged != sink.getvalue()
        (tmp_path / name).write_bytes(damaged)
        (error,) = rows_of(tmp_path / name)
        assert isinstance(error, UserError)


def test_whatever_a_decoder_raises_is_an_error_of_ours(tmp_path):
    """Errors of lzma and csv are none of Python's usual ones."""
    damaged = bytearray(lzma.compress(_lines(ROWS * 1000).encode()))
    damaged[40] ^= 1
    for name, content in (("x.jsonl.xz", bytes(damaged)), ("x.csv", b"file,caption\na.png,one\rtwo\n")):
        (tmp_path / name).write_bytes(content)
        assert isinstance(list(rows_of(tmp_path / name))[-1], UserError)


def test_a_reference_in_a_row_of_the_user_reads_no_other_file(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text("{}")
    medium = Place(file, tmp_path).media(Modality.IMAGE, {"$stored": ["part", 0, 2]})
    assert medium.source.path == file
    for wrong in (["part", -1, 2], ["part", 0, 1 << 40], ["other"], ["cell", 0, "0", ["x"]]):
        with pytest.raises(UserError, match="a medium of at most"):
            Place(file, tmp_path).media(Modality.IMAGE, {"$stored": wrong})


def test_numbers_stay_numbers(tmp_path):
    pq.write_table(pa.table({"x": np.arange(3), "y": [0.5, None, 2.0]}), tmp_path / "x.parquet")
    assert list(rows_of(tmp_path / "x.parquet")) == [{"x": 0, "y": 0.5}, {"x": 1, "y": None}, {"x": 2, "y": 2.0}]
