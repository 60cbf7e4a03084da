"""A server of a model in a thread of the tests, as ``serve`` runs it, and a model that replies when it is told to."""

import socket
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import uvicorn

from nextgpt_pl.batches import Rendered
from nextgpt_pl.generation.stopping import StoppedError
from nextgpt_pl.modality import GENERATED
from nextgpt_pl.samples import ReplyPart
from nextgpt_pl.serving.app import application

NAME = "tiny"
TEXT = ("A", " red", " circle.")


@contextmanager
def served(model, options=None, token=None, loop="auto"):
    """The address of the API of a running server."""
    with running(application(model, NAME, options, token), loop) as address:
        yield f"{address}/v1"


@contextmanager
def running(app, loop="auto"):
    """The address of a running application."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5, loop=loop))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            until(lambda: server.started or not thread.is_alive())
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def until(condition, seconds=20):
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


class ToldModel:
    """Stands for :class:`AnyToAny`: replies with a text and an image once ``go`` is set, and notes what it is asked.

    Attributes:
        reading: cleared to keep prompts from being read.
        batches: number of conversations of each batch that has begun.
        stopped: number of replies that were stopped.

    """

    def __init__(self):
        self.go, self.reading = threading.Event(), threading.Event()
        self.reading.set()
        self.batches, self.stopped, self.asked = [], 0, []
        self.network = SimpleNamespace(decoders=dict.fromkeys(GENERATED))

    def prompt(self, messages, _max_new_tokens):
        self.reading.wait(20)
        return Rendered([1, 2, 3], [-100] * 3, key=str(messages[-1]["content"]))

    def batch(self, prompts, *, stop, **options):
        self.batches.append(len(prompts))
        self.asked.append(([prompt.key for prompt in prompts], options))
        self._wait(stop)
        if any("fail" in prompt.key for prompt in prompts):
            raise RuntimeError("out of memory")
        return [[ReplyPart("text", text="".join(TEXT), tokens=3), self._image()] for _ in prompts]

    def stream(self, prompt, *, stop, **options):
        self.asked.append(([prompt.key], options))
        try:
            for text in TEXT:
                yield ReplyPart("text", text=text, tokens=1)
                self._wait(stop)
            yield self._image()
        except StoppedError:
            return

    def _image(self):
        return ReplyPart("image", array=np.zeros((8, 8, 3), np.uint8), tokens=4)

    def _wait(self, stop):
        while not self.go.wait(0.01):
            if stop():
                self.stopped += 1
                raise StoppedError
