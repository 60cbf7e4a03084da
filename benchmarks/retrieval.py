"""The index of a gallery of many items, in one run: python benchmarks/retrieval.py --items 1000000

Makes vectors in clusters, whose variance falls as that of the principal components of caption embeddings does, and
records of items without media. Prints the time to index them, sizes on disk, the memory of a process that has opened
them, milliseconds per query, and recall against exact search. Needs faiss: pip install 'nextgpt-pl[retrieval]'.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from figures import save

DIMENSIONS, BLOCK, CLUSTERS = 128, 10_000, 5000
QUERIES, CANDIDATES, BATCH = 200, 16, 32
PROBES = (8, 32, 128)
SPREAD, OFF = 0.5, 0.3  # of items in a cluster, and of queries around items
VECTORS, RECORDS = "vectors.faiss", "records.arrow"


def scales() -> np.ndarray:
    """Standard deviation of each component."""
    return (np.arange(1, DIMENSIONS + 1) ** -0.5).astype(np.float32)


def blocks(items: int) -> Iterator[np.ndarray]:
    """The vectors of all items; the same in each call."""
    centres = np.random.default_rng(0).standard_normal((CLUSTERS, DIMENSIONS), np.float32)
    for number, start in enumerate(range(0, items, BLOCK)):
        generator, count = np.random.default_rng([1, number]), min(BLOCK, items - start)
        own = generator.standard_normal((count, DIMENSIONS), np.float32)
        yield (centres[generator.integers(0, CLUSTERS, count)] + SPREAD * own) * scales()


def queries(items: int) -> np.ndarray:
    """Vectors near some of the items, ``(QUERIES, DIMENSIONS)``."""
    generator = np.random.default_rng(2)
    first = next(blocks(items))
    off = generator.standard_normal((QUERIES, DIMENSIONS), np.float32)
    return first[generator.integers(0, len(first), QUERIES)] + OFF * off * scales()


def index(folder: Path, items: int) -> dict[str, float]:
    """Write the index and the records; seconds of each."""
    from nextgpt_pl.retrieval.records import Part, Record, record_batch, write_records
    from nextgpt_pl.retrieval.vector_index import sample_size, write_index

    began = time.perf_counter()
    every = -(-items // sample_size(items))
    sample = np.concatenate([block[::every] for block in blocks(items)])
    write_index(folder / VECTORS, sample, blocks(items), items)
    indexed = time.perf_counter()

    def part(start: int) -> Part:
        numbers = range(start, min(start + BLOCK, items))
        name = "{0:064x}".format
        records = [
            Record(f"item/{i}", f"photo number {i} of a thing", f"media/{name(i)}.jpg", name(i)) for i in numbers
        ]
        return Part(record_batch(records), np.empty(0), [])

    write_records(folder / RECORDS, (part(start) for start in range(0, items, BLOCK)))
    return {"index": indexed - began, "records": time.perf_counter() - indexed}


def memory() -> dict[str, float]:
    """Megabytes of this process: all that is resident, and what is not of mapped files."""
    text = Path("/proc/self/smaps_rollup").read_text()
    found = {name: int(re.search(rf"{name}:\s+(\d+)", text)[1]) / 1000 for name in ("Rss", "Anonymous")}  # type: ignore[index]
    return {"resident": found["Rss"], "anonymous": found["Anonymous"]}


def opened(folder: Path, items: int) -> dict[str, Any]:
    """Open index and records, search, and read a record of each result; times and growth of memory."""
    import faiss
    import pyarrow  # noqa: F401

    from nextgpt_pl.retrieval.records import Records
    from nextgpt_pl.retrieval.vector_index import VectorIndex

    asked = queries(items)
    before, began = memory(), time.perf_counter()
    vectors, records = VectorIndex(folder / VECTORS, items, DIMENSIONS, PROBES[1]), Records(folder / RECORDS, items)
    seconds, after = time.perf_counter() - began, memory()
    found = {"seconds to open": seconds, "MB when opened": {name: after[name] - before[name] for name in after}}
    for _ in range(2):  # the second time, the lists are in memory
        began = time.perf_counter()
        for query in asked:
            records[vectors.search(query, CANDIDATES)[0]]
        found["ms per query, one by one"] = (time.perf_counter() - began) / len(asked) * 1000
    whole = faiss.read_index(str(folder / VECTORS), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
    whole.nprobe = PROBES[1]
    began = time.perf_counter()
    for start in range(0, len(asked), BATCH):
        whole.search(asked[start : start + BATCH], CANDIDATES)
    found[f"ms per query, {BATCH} at once"] = (time.perf_counter() - began) / len(asked) * 1000
    after = memory()
    found[f"MB after {len(asked)} queries"] = {name: after[name] - before[name] for name in after}
    return found


def recalls(folder: Path, items: int) -> dict[str, Any]:
    """Per number of probes, shares of the exact nearest item and of the exact nearest candidates that are found."""
    import faiss

    from nextgpt_pl.retrieval.vector_index import VectorIndex

    asked = queries(items)
    exact = faiss.IndexFlatL2(DIMENSIONS)
    began = time.perf_counter()
    best = np.full((QUERIES, CANDIDATES), np.inf, np.float32), np.zeros((QUERIES, CANDIDATES), np.int64)
    for number, block in enumerate(blocks(items)):
        exact.reset()
        exact.add(block)
        distances, rows = exact.search(asked, CANDIDATES)
        joined = np.hstack([best[0], distances]), np.hstack([best[1], rows + number * BLOCK])
        order = np.argsort(joined[0], axis=1, kind="stable")[:, :CANDIDATES]
        best = np.take_along_axis(joined[0], order, 1), np.take_along_axis(joined[1], order, 1)
    found: dict[str, Any] = {"exact search, ms per query": (time.perf_counter() - began) / QUERIES * 1000}
    for probes in PROBES:
        vectors = VectorIndex(folder / VECTORS, items, DIMENSIONS, probes)
        began = time.perf_counter()
        rows = [vectors.search(query, CANDIDATES) for query in asked]
        seconds = time.perf_counter() - began
        shares = [len(set(a) & set(b)) / CANDIDATES for a, b in zip(rows, best[1].tolist(), strict=True)]
        nearest = [b[0] in a for a, b in zip(rows, best[1].tolist(), strict=True)]
        found[f"{probes} probes"] = {
            f"nearest item among {CANDIDATES}": float(np.mean(nearest)),
            f"share of the nearest {CANDIDATES}": float(np.mean(shares)),
            "ms per query": seconds / QUERIES * 1000,
        }
    return found


MEASURES = {"index": index, "opened": opened, "recalls": recalls}


def measured(what: str, folder: Path, items: int) -> Any:
    """One of the measurements, in a process of its own."""
    command = [sys.executable, __file__, "--measure", what, "--folder", str(folder), "--items", str(items)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def main() -> None:
    """Parse the arguments; the script calls itself for each measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000, help="of the gallery")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--measure", choices=list(MEASURES), help="one measurement; used by the script itself")
    parser.add_argument("--folder", type=Path, help="of that measurement")
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(MEASURES[options.measure](options.folder, options.items)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        figures: dict[str, Any] = {"items": options.items, "numbers of a vector": DIMENSIONS}
        figures["seconds to build"] = measured("index", folder, options.items)
        figures["MB on disk"] = {name: (folder / name).stat().st_size / 1e6 for name in (VECTORS, RECORDS)}
        figures |= measured("opened", folder, options.items)
        figures["recall"] = measured("recalls", folder, options.items)
    print(json.dumps(figures, indent=2))
    save(options.json, figures)


if __name__ == "__main__":
    main()
