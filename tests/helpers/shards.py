"""Tar shards of small dialogues about images, and a server that gives them over HTTP."""

import io
import json
import tarfile
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image


def write_shard(path, numbers, broken=(), without_answer=()):
    """One dialogue per number, whose answer is the number; of ``broken`` ones the image cannot be read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for number in numbers:
            buffer = io.BytesIO()
            Image.new("RGB", (16, 16), (number % 256, 40, 90)).save(buffer, "PNG")
            image = buffer.getvalue()
            turns = [{"from": "human", "value": "<image>\nWhich?"}]
            turns += [] if number in without_answer else [{"from": "gpt", "value": f"number {number}"}]
            members = {
                "png": image[:40] if number in broken else image,
                "json": json.dumps({"conversations": turns}).encode(),
            }
            for ending, content in members.items():
                info = tarfile.TarInfo(f"{number:06d}.{ending}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.asked.append(self.path.lstrip("/"))
        super().do_GET()


@contextmanager
def served(folder):
    """The address of a server of a folder, and the list of the names that it was asked for."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=folder))
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server.asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
