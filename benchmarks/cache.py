"""The feature cache, in one run: python benchmarks/cache.py

Prints (a) of a store of a million features of 256 numbers: seconds to open it, memory per feature, and features read
per second, in batches of 64 random keys and one by one, the first time, when checksums are verified, and later, also in
proportion to reading as many rows of one mapped tensor without keys; (b) per dtype, the size on disk and the relative
error of random features; (c) the rate at which processes fill a cache with the features of image files, each with
workers that read them, in proportion to the encoder alone, in as many processes, on tensors that are ready.

The store was written just before, so it is in the page cache. The encoder is the random one of benchmarks/steps.py, on
the CPU: workers and encoder share the cores, unlike on a GPU.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from figures import save
from PIL import Image
from step_variants import Setting, build_stage, save_models
from torch import Tensor

from nextgpt_pl.datamodules import CaptionedPairs, CaptionFolder
from nextgpt_pl.encoders.base import MEDIA_PER_PASS
from nextgpt_pl.features import FeatureCache, FeatureStore
from nextgpt_pl.features.keys import digest
from nextgpt_pl.features.rounding import DTYPES
from nextgpt_pl.features.shards import Shard
from nextgpt_pl.modality import Modality

ITEMS, WIDTH, READ, BATCH = 1_000_000, 256, 20_000, 64
SAMPLE_SHAPE, SAMPLES = (1, 1024), 5_000  # one feature of ImageBind per medium
PATIENCE = 300  # seconds for which processes wait for one another
Figures = dict[str, Any]
shared: Figures = {}


def key_of(item: int) -> bytes:
    return digest("benchmark", str(item))


def write_store(folder: Path, items: int) -> None:
    """A store in float16 whose features repeat every 1,000 items."""
    values = torch.randn(1_000, 1, WIDTH, generator=torch.Generator().manual_seed(0))
    store = FeatureStore(folder, {}, torch.float16)
    for start in range(0, items, len(values)):
        keys = [key_of(item) for item in range(start, min(start + len(values), items))]
        store.add_each(keys, values[: len(keys)])
    store.flush()


def own_memory() -> int:
    """Bytes of this process that are not pages of files, after its allocator has given back what was freed (glibc)."""
    ctypes.CDLL(None).malloc_trim(0)
    found = re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text(encoding="utf-8"))
    assert found is not None
    return int(found[1]) * 1024


def rate(read: Callable[[Sequence[Any]], object], items: Sequence[Any], batch: int) -> float:
    """Items per second."""
    started = time.perf_counter()
    for start in range(0, len(items), batch):
        read(items[start : start + batch])
    return len(items) / (time.perf_counter() - started)


def read_store(folder: Path, items: int) -> Figures:
    """Open a store and read random features of it; in a process that does nothing else."""
    count = min(READ, items)
    drawn = np.random.default_rng(0).permutation(items)[: 2 * count].tolist()
    batched, single = ([key_of(item) for item in part] for part in (drawn[:count], drawn[-count:]))
    FeatureStore(folder / "empty", {}, torch.float16).get_each([key_of(0)])  # first use of every library
    before = own_memory()
    started = time.perf_counter()
    store = FeatureStore(folder / "store", {}, torch.float16)
    figures: Figures = {"items": items, "seconds to open": time.perf_counter() - started}
    figures["bytes of memory per item"] = (own_memory() - before) / items
    assert len(store) == items
    for what in ("first", "later"):
        figures[f"items per second in batches, {what} reads"] = rate(store.look_up, batched, BATCH)
        figures[f"items per second one by one, {what} reads"] = rate(lambda keys: store.get(keys[0]), single, 1)
    shard = Shard(next((folder / "store").glob("*.safetensors")))
    rows = np.random.default_rng(0).integers(0, len(shard.keys), count).tolist()
    plain = rate(lambda part: [shard.read(row) for row in part], rows, BATCH)
    figures["rows per second without keys"] = plain
    figures["share of the rate without keys"] = figures["items per second in batches, later reads"] / plain
    return figures


def sizes(folder: Path) -> Figures:
    """Per dtype: bytes per feature on disk, also in proportion to float32, and errors."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(SAMPLES, *SAMPLE_SHAPE, generator=generator)
    keys = [key_of(item) for item in range(SAMPLES)]
    figures: Figures = {}
    for dtype in DTYPES:
        store = FeatureStore(folder / dtype, {}, getattr(torch, dtype))
        store.add_each(keys, values)
        store.flush()
        size = store.bytes_on_disk() / SAMPLES
        figures[dtype] = {"bytes per item": size, "relative error": store.error.root_mean_square}
        figures[dtype] |= {"largest relative error": store.error.largest}
    for found in figures.values():
        found["share of float32"] = found["bytes per item"] / figures["float32"]["bytes per item"]
    return figures


def write_images(folder: Path, count: int) -> None:
    """Images of 1280 x 960 with captions."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        small = Image.fromarray(rng.integers(0, 256, (120, 160, 3), np.uint8))
        small.resize((1280, 960)).save(folder / f"{number}.jpg")
    lines = [json.dumps({"file": f"{number}.jpg", "caption": f"image {number}"}) for number in range(count)]
    (folder / "all.jsonl").write_text("\n".join(lines), encoding="utf-8")


def share(barrier: Any) -> None:
    """Give a process the barrier, which cannot be an argument of its tasks."""
    shared["barrier"] = barrier


def fill(rank: int, ranks: int, folder: Path, workers: int) -> tuple[int, float, float]:
    """One of the processes: fills the cache, then runs the encoder alone on as many tensors; media, seconds of both."""
    torch.set_num_threads(1)
    stage = build_stage(Setting("enc_align", folder, cache=FeatureCache(folder / f"cache-{ranks}", "float16")))
    source = CaptionFolder(folder / "images", "all.jsonl", val_fraction=0.2)
    pairs = CaptionedPairs([source], batch_size=2 * MEDIA_PER_PASS, num_workers=workers)
    batches = iter(pairs.with_renderer(stage.renderer, stage.reader).every_item(rank, ranks))
    first = next(batches)
    stage.fill_cache(first, torch.device("cpu"))  # loads the encoder, and workers start
    shared["barrier"].wait()
    started, media = time.perf_counter(), 0
    for batch in batches:
        stage.fill_cache(batch, torch.device("cpu"))
        media += len(batch)
    stage.network.cache.flush()
    filled = time.perf_counter() - started
    ready = torch.stack([slot.inputs for _, slot in first.slots[Modality.IMAGE][:MEDIA_PER_PASS]])
    shared["barrier"].wait()
    return media, filled, encoder_alone(stage.network.encoder, ready, media)


@torch.no_grad()
def encoder_alone(encoder: Any, ready: Tensor, media: int) -> float:
    """Seconds of the passes for a number of media."""
    started = time.perf_counter()
    for _ in range(-(-media // MEDIA_PER_PASS)):
        encoder(Modality.IMAGE, ready)
    return time.perf_counter() - started


def filling(folder: Path, processes: int, workers: int) -> Figures:
    """Images per second of processes that fill a cache, and of the encoder alone in as many."""
    context = get_context("spawn")
    given = (context.Barrier(processes, timeout=PATIENCE),)
    with ProcessPoolExecutor(processes, context, initializer=share, initargs=given) as pool:
        running = [pool.submit(fill, rank, processes, folder, workers) for rank in range(processes)]
        results = [process.result() for process in running]
    media, filled, alone = sum(r[0] for r in results), max(r[1] for r in results), max(r[2] for r in results)
    rates = {"images per second": media / filled, "encoder alone": media / alone}
    return {"processes": processes, "workers each": workers, **rates, "share of the encoder's rate": alone / filled}


def measured(folder: Path, items: int) -> Figures:
    """:func:`read_store` in a process of its own."""
    command = [sys.executable, __file__, "--items", str(items), "--read", str(folder)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def show(figures: Figures, indent: str = "") -> None:
    """Print figures, one per line."""
    for name, value in figures.items():
        if isinstance(value, dict):
            print(f"{indent}{name}:")
            show(value, indent + "  ")
        else:
            shown = str(value) if isinstance(value, int) else format(value, ",.0f" if value > 99 else ".3g")
            print(f"{indent}{name}: {shown}")


def main() -> None:
    """Parse the arguments; the script calls itself to read the store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=ITEMS, help="of the store")
    parser.add_argument("--images", type=int, default=96, help="whose features fill a cache; 0: none")
    parser.add_argument("--processes", type=int, default=2, help="that fill it, after one alone")
    parser.add_argument("--workers", type=int, default=1, help="of each of them")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--read", type=Path, help="folder of the store; used by the script itself")
    options = parser.parse_args()
    if options.read:
        print(json.dumps(read_store(options.read, options.items)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_store(folder / "store", options.items)
        figures: Figures = {"store": measured(folder, options.items), "dtypes": sizes(folder)}
        if options.images:
            save_models(folder, "small")
            write_images(folder / "images", options.images)
            for processes in sorted({1, options.processes}):
                figures[f"filling by {processes}"] = filling(folder, processes, options.workers)
    show(figures)
    save(options.json, figures)


if __name__ == "__main__":
    main()
