"""Opening of data files: decompression, and the message for texts of another encoding."""

from __future__ import annotations

import codecs
import io
from pathlib import Path
from typing import IO

_COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd", b"\x04\x22\x4d\x18": "lz4"}
_ENCODINGS = {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file for reading, decompressed where its first bytes say that it is compressed."""
    with path.open("rb") as file:
        start = file.read(6)
    for magic, codec in _COMPRESSIONS.items():
        if start.startswith(magic):
            import pyarrow

            return io.BufferedReader(pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), codec))
    if start == b"\xfd7zXZ\x00":
        import lzma

        return lzma.open(path)
    return path.open("rb")


def not_utf8(path: Path, error: UnicodeDecodeError) -> str:
    """The message for a text that is not UTF-8: its encoding, as far as it can be told, and how to convert it."""
    with open_bytes(path) as file:
        start = file.read(2)
    encoding = _ENCODINGS.get(start, "")
    what = f"the file is {encoding}" if encoding else f"byte 0x{error.object[error.start]:02x} is not UTF-8"
    source = encoding or "latin1"
    return f"{what}; texts are UTF-8: iconv -f {source} -t utf-8 {path.name}"
