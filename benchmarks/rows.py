"""Data sets of many rows, in one run: python benchmarks/rows.py --rows 5000000

Writes JSON Lines of captions and image names, indexes them, and starts again from the index; prints rows per second of
CPU time, seconds to the first batch, proportional set size of each process, and samples per second, also for 5,000 rows
as the yardstick. Images are 1,000 small files; nothing is trained.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image

IMAGES, YARDSTICK, WORKERS, BATCH = 1000, 5000, 2, 32
SETTLED = 100  # batches after which memory is measured


def make(folder: Path, rows: int) -> None:
    """Write images, and rows that refer to them."""
    (folder / "images").mkdir(parents=True)
    for i in range(IMAGES):
        Image.new("RGB", (32, 32), (i % 256, i // 4 % 256, 7)).save(folder / "images" / f"{i:04d}.png")
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as file:
        for i in range(rows):
            caption = f"photo number {i} of a small thing on a wooden table"
            row = {"caption": caption, "image_name": f"{i % IMAGES:04d}.png"}
            file.write(json.dumps(row) + "\n")


def set_size(process: int | str) -> int:
    """Proportional set size of a process in MB."""
    text = Path(f"/proc/{process}/smaps_rollup").read_text()
    return int(re.search(r"Pss:\s+(\d+)", text)[1]) // 1000  # type: ignore[index]


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
    began, cpu = time.perf_counter(), time.process_time()
    count = len(data.items("train"))
    cpu = time.process_time() - cpu
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
    return {"rows": count, "cpu": cpu, "first": first, "rate": rate, "megabytes": sizes}


def measured(folder: Path, seconds: float) -> dict[str, Any]:
    """:func:`start` in a process of its own."""
    command = [sys.executable, __file__, "--folder", str(folder), "--seconds", str(seconds)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def main() -> None:
    """Make the data sets, measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--seconds", type=float, default=20, help="for which batches are drawn")
    parser.add_argument("--folder", type=Path, help="measure one start on this data set; used by the script itself")
    options = parser.parse_args()
    if options.folder:
        print(json.dumps(start(options.folder, options.seconds)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        small, large = Path(scratch) / "small", Path(scratch) / "large"
        make(small, YARDSTICK)
        make(large, options.rows)
        indexed = measured(large, options.seconds)
        print(
            f"indexed {indexed['rows']:,} rows at {indexed['rows'] / indexed['cpu']:,.0f} rows per second of CPU time"
        )
        yardstick, again = measured(small, options.seconds), measured(large, options.seconds)
        print(f"next start: {again['first']:.1f} s from the start of reading to the first batch")
        print(f"proportional set size, main process and workers: {again['megabytes']} MB; {yardstick['megabytes']} MB"
              f" with {YARDSTICK:,} rows")  # fmt: skip
        ratio = again["rate"] / yardstick["rate"]
        print(f"samples per second: {again['rate']:,.0f}; {ratio:.2f} times those of {YARDSTICK:,} rows")


if __name__ == "__main__":
    main()
