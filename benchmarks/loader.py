"""Reading of media in training, in one run: python benchmarks/loader.py

Prints (a) the share of a training step that the main thread reads media, and the share that it waits for the data
loader's workers, in stage 1 and in stage 2 with the denoising loss; (b) seconds to prepare an 18 s video for ImageBind;
(c) peak memory of a process that reads 10 s of 1080p. The script generates the media: images of 1280 x 960, videos of
18 s in 640 x 360, stereo sounds of 10 s. Models are the random ones of benchmarks/steps.py. No feature is cached: every
step sees new media.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import av
import numpy as np
import soundfile
import torch
from PIL import Image
from step_variants import Setting, build_stage, save_models

from nextgpt_pl.datamodules import CaptionedPairs, CaptionFolder
from nextgpt_pl.encoders import ImageBindEncoder
from nextgpt_pl.encoders.imagebind import ImageBindConfig
from nextgpt_pl.media import reading
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import Media

FPS, KEYFRAMES = 25, 250  # the encoder's default distance of keyframes
# a program of its own, that imports nothing else; prints its peak memory before and after in MB
READ_VIDEO = """
import re, sys
from pathlib import Path
from nextgpt_pl.media.video import load_video

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1000

before = peak()
load_video(Path(sys.argv[1]), int(sys.argv[2]) or None)
print(before, peak())
"""
READERS = ("load_image", "load_video", "load_audio")


class FullSizeEncoder(ImageBindEncoder):
    """Prepares media for the published ImageBind, whose weights are not needed for that."""

    config = ImageBindConfig.huge()  # type: ignore[assignment]


def write_video(
    path: Path, seconds: float, width: int, height: int, rng: np.random.Generator, keyframes: int = KEYFRAMES
) -> None:
    """H.264: textured rectangles that move over a background of noise; one keyframe per ``keyframes`` frames."""
    background = rng.integers(0, 256, (height, width, 3), np.uint8)
    background = np.asarray(Image.fromarray(background).resize((width // 8, height // 8)).resize((width, height)))
    starts, speeds = rng.uniform(0, 1, (6, 2)), rng.uniform(-0.2, 0.2, (6, 2))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size = keyframes
        for number in range(int(seconds * FPS)):
            frame = background.copy()
            places = (starts + speeds * number / FPS) % 1 * [height * 3 // 4, width * 3 // 4]
            for index, (top, left) in enumerate(places.astype(int)):
                frame[top : top + height // 5, left : left + width // 5] ^= np.uint8(37 * (index + 1))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def write_media(folder: Path, per_modality: int) -> None:
    """A folder of images, videos and sounds with captions."""
    rng, names = np.random.default_rng(0), []
    for number in range(per_modality):
        small = Image.fromarray(rng.integers(0, 256, (120, 160, 3), np.uint8))
        small.resize((1280, 960)).save(folder / f"{number}.jpg")
        write_video(folder / f"{number}.mp4", 18, 640, 360, rng)
        soundfile.write(folder / f"{number}.flac", rng.uniform(-0.5, 0.5, (441_000, 2)), 44_100)
        names += [f"{number}.jpg", f"{number}.mp4", f"{number}.flac"]
    lines = [json.dumps({"file": name, "caption": f"a medium called {name}"}) for name in names]
    (folder / "all.jsonl").write_text("\n".join(lines), encoding="utf-8")


@contextmanager
def timed_readers(spent: list[float]) -> Iterator[None]:
    """Add the seconds of each file that this process reads to ``spent``; workers have a copy of their own."""
    originals = {name: getattr(reading, name) for name in READERS}

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                spent.append(time.perf_counter() - started)

        return call

    try:
        for name, function in originals.items():
            setattr(reading, name, timed(function))
        yield
    finally:
        for name, function in originals.items():
            setattr(reading, name, function)


def train(name: str, models: Path, media: Path, arguments: argparse.Namespace, workers: int) -> None:
    """One epoch over all media; prints how the main thread spends it."""
    stage = build_stage(Setting(name, models), denoising=1.0)
    source = CaptionFolder(media, "all.jsonl", val_fraction=0)
    data = CaptionedPairs([source], batch_size=arguments.batch_size, num_workers=workers)
    loader = data.with_renderer(stage.renderer, stage.reader).train_dataloader()
    optimizer = torch.optim.AdamW(stage.parameter_groups(), lr=1e-6)
    read: list[float] = []
    waited, steps = 0.0, 0
    with timed_readers(read):
        started = ready = time.perf_counter()
        for batch in loader:
            if steps:  # the first batch also starts the workers
                waited += time.perf_counter() - ready
            else:
                started = time.perf_counter()
                read.clear()
            optimizer.zero_grad()
            stage.model_step(batch, "train").backward()
            optimizer.step()
            steps, ready = steps + 1, time.perf_counter()
        total = ready - started
    # without workers, media are read while the loop waits for the loader
    waited -= sum(read) if workers == 0 else 0.0
    print(
        f"{name}, {workers} workers: {total / steps:.2f} s a step; the main thread reads {len(read)} files,"
        f" {sum(read) / total:.1%} of its time, and waits {waited / total:.1%}"
    )


def print_prepare(folder: Path, repeats: int) -> None:
    """Seconds of ``prepare`` for an 18 s video, and of decoding all of its frames without converting any."""
    encoder = FullSizeEncoder("pocket:encoder")
    for keyframes in (KEYFRAMES, 2 * FPS, FPS):
        path = folder / f"{keyframes}.mp4"
        write_video(path, 18, 640, 360, np.random.default_rng(0), keyframes)
        prepare = seconds(partial(encoder.prepare, Media(Modality.VIDEO, path)), repeats)
        decode = seconds(partial(decode_all, path), repeats)
        print(
            f"18 s of 640 x 360, a keyframe every {keyframes / FPS:g} s: prepare {prepare:.3f} s;"
            f" decoding all {18 * FPS} frames alone takes {decode:.3f} s"
        )


def seconds(function: Callable[[], object], repeats: int) -> float:
    """Median over repetitions after a first one."""
    function()
    found = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        found.append(time.perf_counter() - started)
    return median(found)


def decode_all(path: Path) -> None:
    """Decode every frame."""
    with av.open(str(path)) as container:
        for _ in container.decode(video=0):
            pass


def print_memory(folder: Path) -> None:
    """Peak memory of processes that read 10 s of 1080p."""
    path = folder / "hd.mp4"
    write_video(path, 10, 1920, 1080, np.random.default_rng(0))
    for count in (10, 0):
        command = [sys.executable, "-W", "ignore", "-c", READ_VIDEO, str(path), str(count)]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        what = f"{count} frames" if count else "all frames"
        print(f"10 s of 1080p, {what}: peak {out[1]} MB, of which imports {out[0]} MB")


def main() -> None:
    """Write media and models to a temporary folder, and print all figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-modality", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=6)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9, help="of prepare")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, media = Path(name), Path(name) / "media"
        media.mkdir()
        write_media(media, arguments.per_modality)
        save_models(folder, "small")
        print_prepare(folder, arguments.repeats)
        print_memory(folder)
        for stage in ("enc_align", "dec_align"):
            for workers in (0, arguments.workers):
                train(stage, folder, media, arguments, workers)


if __name__ == "__main__":
    main()
