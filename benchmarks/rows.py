"""Data sets of many rows, in one run: python benchmarks/rows.py --rows 5000000

Writes JSON Lines and 1,000 small images; nothing is trained. Prints (a) for each layout, how many rows are indexed per
second of CPU time; (b) of a large data set, seconds from the start of reading to the first batch when its index is on
disk, proportional set size of each process, and samples per second, also those of 5,000 rows as the yardstick.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

IMAGES, YARDSTICK, WORKERS, BATCH = 1000, 5000, 2, 32
INDEXED = 200_000  # rows by which the index is timed
SETTLED = 100  # batches after which memory is measured


def _messages(image: str, caption: str) -> dict[str, Any]:
    question = [{"type": "image", "path": image}, {"type": "text", "text": "What is this?"}]
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": caption}]}


LAYOUTS: dict[str, Callable[[str, str], dict[str, Any]]] = {
    "manifest": lambda image, caption: {"file": image, "caption": caption},
    "official": lambda image, caption: {"caption": caption, "image_name": image},
    "messages": _messages,
}


def make(folder: Path, rows: int, layout: str = "official") -> None:
    """Write images, and rows that refer to them."""
    (folder / "images").mkdir(parents=True)
    for i in range(IMAGES):
        Image.new("RGB", (32, 32), (i % 256, i // 4 % 256, 7)).save(folder / "images" / f"{i:04d}.png")
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as file:
        for i in range(rows):
            caption = f"photo number {i} of a small thing on a wooden table"
            file.write(json.dumps(LAYOUTS[layout](f"{i % IMAGES:04d}.png", caption)) + "\n")


def set_size(process: int | str) -> int:
    """Proportional set size of a process in MB."""
    text = Path(f"/proc/{process}/smaps_rollup").read_text()
    return int(re.search(r"Pss:\s+(\d+)", text)[1]) // 1000  # type: ignore[index]


def index(folder: Path) -> dict[str, Any]:
    """Index the rows; CPU time without imports."""
    import pyarrow  # noqa: F401

    from nextgpt_pl.datamodules import DataFiles

    source = DataFiles(folder, ["rows.jsonl"], val_fraction=0.001, index_folder=folder / "index")
    began = time.process_time()
    source.read("train")
    return {"rows": source.report.used, "cpu": time.process_time() - began}


def start(folder: Path, seconds: float) -> dict[str, Any]:
    """Read the rows and draw batches for some seconds, as training does."""
    from nextgpt_pl.datamodules import CaptionedPairs, DataFiles
    from nextgpt_pl.dialogue.conversation import Conversation
    from nextgpt_pl.llm import CausalLM
    from nextgpt_pl.modality import Modality

    conversation = Conversation(CausalLM("pocket:llm").tokenizer, {}, {Modality.IMAGE: 2}, direction="comprehension")
    source = DataFiles(folder, ["rows.jsonl"], val_fraction=0.001, index_folder=folder / "index")
    data = CaptionedPairs([source], batch_size=BATCH, num_workers=WORKERS, weights={"image": 1.0})
    data = data.with_renderer(conversation)
    began = time.perf_counter()
    batches = iter(data.train_dataloader())
    next(batches)
    first = time.perf_counter() - began
    children = Path("/proc/self/task").glob("*/children")
    workers = [number for file in children for number in file.read_text().split()]
    began, drawn, sizes = time.perf_counter(), 0, []
    for batch in batches:
        drawn += len(batch)
        if drawn == len(batch) * SETTLED:
            sizes = [set_size(process) for process in ("self", *workers)]
        if time.perf_counter() - began > seconds:
            break
    rate = drawn / (time.perf_counter() - began)
    return {"first": first, "rate": rate, "megabytes": sizes}


def measured(what: str, folder: Path, seconds: float) -> dict[str, Any]:
    """:func:`index` or :func:`start` in a process of its own."""
    command = [sys.executable, __file__, "--measure", what, "--folder", str(folder), "--seconds", str(seconds)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def print_index(name: str, found: dict[str, Any]) -> None:
    """Print the rate of :func:`index`."""
    print(f"{name}: {found['rows']:,} rows indexed, {found['rows'] / found['cpu']:,.0f} per second of CPU time")


def print_all(scratch: Path, rows: int, seconds: float) -> None:
    """Make the data sets, measure, and print."""
    for layout in LAYOUTS:
        make(scratch / layout, min(rows, INDEXED), layout)
        print_index(layout, measured("index", scratch / layout, seconds))
    small, large = scratch / "small", scratch / "large"
    make(small, YARDSTICK)
    make(large, rows)
    print_index("large data set (official)", measured("index", large, seconds))
    # in turns, and the faster one of two: other processes may slow one of them down
    turns = [{folder: measured("start", folder, seconds) for folder in (small, large)} for _ in range(2)]
    yardstick, found = (max((turn[folder] for turn in turns), key=lambda f: f["rate"]) for folder in (small, large))
    print(f"next start: {found['first']:.1f} s from the start of reading to the first batch")
    print(f"proportional set size, main process and workers: {found['megabytes']} MB; {yardstick['megabytes']} MB"
          f" with {YARDSTICK:,} rows")  # fmt: skip
    ratio = found["rate"] / yardstick["rate"]
    print(f"samples per second: {found['rate']:,.0f}; {ratio:.2f} times those of {YARDSTICK:,} rows")


def main() -> None:
    """Parse the arguments; the script calls itself for each measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=INDEXED, help="of the large data set")
    parser.add_argument("--seconds", type=float, default=10, help="for which batches are drawn, twice")
    parser.add_argument("--measure", choices=["index", "start"], help="measure one data set; used by the script itself")
    parser.add_argument("--folder", type=Path, help="of that data set")
    options = parser.parse_args()
    if options.measure:
        found = index(options.folder) if options.measure == "index" else start(options.folder, options.seconds)
        print(json.dumps(found))
        return
    with tempfile.TemporaryDirectory() as scratch:
        print_all(Path(scratch), options.rows, options.seconds)


if __name__ == "__main__":
    main()
