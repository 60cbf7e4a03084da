"""The server under many clients, in one run: python benchmarks/serving.py --run outputs/instruct/RUN --seconds 120

Starts ``serve`` in a process of its own, without --run with the pocket parts and random projections. Prints (a) replies
with media per second of 16 clients at once, their ratio to one client at a time, and errors; (b) for 64 clients and a
queue of 32, how many requests are answered and how many get 429 with Retry-After; (c) of streams, seconds to the first
text and to the first medium; (d) resident memory of the server at the beginning and at the end.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count, product
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from untrained import save_untrained

from nextgpt_pl.utils.paths import run_folder

ROOT = Path(__file__).parent.parent
CLIENTS, CROWD, QUEUE, STREAMS = 16, 64, 32, 4
TIMEOUT = 600.0
PROMPTS = [
    f"Draw a {size} {color} {shape} in the center on black."
    for size, color, shape in product(("small", "large"), ("red", "green", "blue"), ("circle", "square", "star"))
]


@dataclass
class Outcome:
    """What the requests of some clients have come to.

    Attributes:
        seconds: from the first request to the last response.
        statuses: number of responses by status.
        media: replies with a medium.
        without_hint: responses 429 without Retry-After.
        failures: requests without response, by error.

    """

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    media: int = 0
    without_hint: int = 0
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def rate(self) -> float:
        """Replies with media per second."""
        return self.media / self.seconds

    @property
    def answered(self) -> int:
        """Number of requests with a response."""
        return sum(self.statuses.values())


@contextmanager
def server(run: Path, *options: str) -> Iterator[tuple[str, int]]:
    """Address of the API of a running server, and its process id."""
    command = [sys.executable, "-m", "nextgpt_pl", "serve", "--run", str(run), "--port", "0", *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.startswith("serving "):
                raise SystemExit(f"the server has not started: {line}")
            yield line.split()[-1], process.pid
        finally:
            process.terminate()


def resident(process: int) -> float:
    """Resident memory of a process in MB."""
    text = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1000  # type: ignore[index]


def body(number: int, tokens: int, **more: Any) -> dict[str, Any]:
    """A request for an image."""
    message = {"role": "user", "content": PROMPTS[number % len(PROMPTS)]}
    return {"messages": [message], "modalities": ["text", "image"], "max_tokens": tokens, "seed": number, **more}


def clients(number: int, seconds: float, work: Callable[[httpx.Client, int], None]) -> float:
    """Let clients work again and again until the time is over, and finish; returns the duration."""
    numbers, lock = count(), threading.Lock()
    ready = threading.Barrier(number + 1)  # making a client takes a while

    def client() -> None:
        with httpx.Client(timeout=TIMEOUT) as http:
            ready.wait()
            began = time.perf_counter()
            while time.perf_counter() - began < seconds:
                with lock:
                    mine = next(numbers)
                work(http, mine)

    with ThreadPoolExecutor(number) as pool:
        working = [pool.submit(client) for _ in range(number)]
        ready.wait()
        began = time.perf_counter()
        for done in working:
            done.result()
    return time.perf_counter() - began


def load(address: str, number: int, seconds: float, tokens: int) -> Outcome:
    """Requests of ``number`` clients for some seconds; a client that gets 429 waits as long as it is told to."""
    outcome, lock = Outcome(), threading.Lock()

    def ask(http: httpx.Client, mine: int) -> None:
        try:
            response = http.post(f"{address}/chat/completions", json=body(mine, tokens))
        except httpx.HTTPError as error:
            with lock:
                outcome.failures[type(error).__name__] += 1
            return
        wait = response.headers.get("retry-after")
        with lock:
            outcome.statuses[response.status_code] += 1
            outcome.media += response.status_code == 200 and "image_url" in response.text
            outcome.without_hint += response.status_code == 429 and wait is None
        if response.status_code == 429:
            time.sleep(min(float(wait or 1), seconds))

    outcome.seconds = clients(number, seconds, ask)
    return outcome


def first_parts(address: str, seconds: float, tokens: int) -> tuple[list[float], list[float]]:
    """Seconds from requests for streams to their first text, and to their first medium."""
    texts: list[float] = []
    media: list[float] = []

    def read(http: httpx.Client, mine: int) -> None:
        began, found = time.perf_counter(), {}
        with http.stream("POST", f"{address}/chat/completions", json=body(mine, tokens, stream=True)) as response:
            for line in response.iter_lines():
                if line.startswith("data: {"):
                    delta = json.loads(line.removeprefix("data: "))["choices"][0]["delta"]
                    for kind in ("content", "parts"):
                        if delta.get(kind):
                            found.setdefault(kind, time.perf_counter() - began)
        for kind, times in (("content", texts), ("parts", media)):
            if kind in found:
                times.append(found[kind])

    clients(STREAMS, seconds, read)
    return texts, media


def spread(times: Sequence[float]) -> str:
    """Median and 95th percentile."""
    middle, most = np.percentile(times, (50, 95)) if times else (float("nan"), float("nan"))
    return f"median {middle:.2f} s, 95% below {most:.2f} s, of {len(times)}"


def print_all(address: str, process: int, seconds: float, tokens: int) -> None:
    """Measure, and print."""
    say = partial(print, flush=True)
    load(address, CLIENTS, 1.0, tokens)  # the first batch is slower
    first = resident(process)
    # in turns, so that other work on the machine slows both down alike
    turns = [{n: load(address, n, seconds / 2, tokens) for n in (1, CLIENTS)} for _ in range(2)]
    rates = {n: sum(t[n].media for t in turns) / sum(t[n].seconds for t in turns) for n in (1, CLIENTS)}
    errors = sum(t[n].answered + sum(t[n].failures.values()) - t[n].media for t in turns for n in (1, CLIENTS))
    say(f"{CLIENTS} clients at once: {rates[CLIENTS]:.2f} replies with media per second; one: {rates[1]:.2f}")
    say(f"ratio: {rates[CLIENTS] / rates[1]:.2f}; replies without medium, and errors: {errors}")
    crowd = load(address, CROWD, seconds, tokens)
    others = {status: n for status, n in crowd.statuses.items() if status not in (200, 429)}
    say(
        f"{CROWD} clients, queue of {QUEUE}: {crowd.statuses[200]} answered, {crowd.statuses[429]} with status 429"
        f" ({crowd.without_hint} of them without Retry-After); other statuses: {others or 0};"
        f" lost: {dict(crowd.failures) or 0}"
    )
    texts, media = first_parts(address, seconds, tokens)
    say(f"{STREAMS} streams at once, first text: {spread(texts)}")
    say(f"{STREAMS} streams at once, first medium: {spread(media)}")
    say(f"resident memory of the server: {first:,.0f} MB at the beginning, {resident(process):,.0f} MB at the end")


def main() -> None:
    """Parse the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--run", type=Path, help="folder of a run, or pocket:chat; by default the pocket parts, not trained"
    )
    parser.add_argument("--seconds", type=float, default=120, help="of each measurement")
    parser.add_argument("--max_tokens", type=int, default=48, help="of each reply")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        run = options.run or save_untrained(Path(scratch))
        limits = ("--queue", str(QUEUE), "--batch_size", str(CLIENTS), "--timeout", str(TIMEOUT))
        with server(run_folder(run).resolve(), *limits) as (address, process):
            print_all(address, process, options.seconds, options.max_tokens)


if __name__ == "__main__":
    main()
