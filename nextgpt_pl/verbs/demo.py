"""``demo``: chat with trained runs in a browser."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from nextgpt_pl.errors import UserError
from nextgpt_pl.utils.processes import terminable
from nextgpt_pl.verbs.command import call

_GRACE = 10.0  # seconds that connections have to end


def demo(
    run: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 7860,
    captions: Path | None = None,
    max_megabytes: float = 50.0,
    max_seconds: float = 60.0,
    trust: Sequence[str] = (),
) -> int:
    """Serve a page to chat with trained runs, with images, videos and sounds.

    Args:
        run: a run, or a folder of runs at any depth, among which the page offers a choice; by default the run of the
            package, and those in outputs.
        host: address to listen at; 0.0.0.0 for other machines too, which all may use the page.
        port: port to listen at; 0 is any free one.
        captions: text file of captions, one a line, that the pane for researchers compares embeddings with; by default
            those of the pocket world.
        max_megabytes: maximum size of an uploaded file.
        max_seconds: maximum duration of an uploaded video or sound.
        trust: dotted names of classes outside this package that the runs may name, such as my_package.MyEncoder.

    """
    if importlib.util.find_spec("gradio") is None:
        raise UserError("demo needs Gradio: pip install 'nextgpt-pl[demo]'")
    with terminable(), tempfile.TemporaryDirectory(prefix="nextgpt_demo") as folder:
        # read when Gradio is imported: uploads are deleted with the folder, nothing is sent to its makers, and browsers
        # keep no history of conversations
        privacy = {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_RUN_HISTORY": "False"}
        os.environ.update(GRADIO_TEMP_DIR=f"{folder}/gradio", **privacy)
        from nextgpt_pl.demo.captions import captions_of, pocket_captions
        from nextgpt_pl.demo.models import Models, find_models
        from nextgpt_pl.demo.page import application, build_page, end_connections
        from nextgpt_pl.demo.uploads import Limits
        from nextgpt_pl.serving.run import check_address
        from nextgpt_pl.serving.run import run as run_server

        check_address(host, port)
        limits = Limits(max_megabytes, max_seconds)
        models = Models(find_models(run), captions_of(captions) if captions else pocket_captions(), trust)
        app = application(build_page(models, limits, Path(folder)), limits)

        def end() -> None:
            models.closed.set()
            end_connections(app)

        return run_server(app, host, port, _GRACE, lambda url: print(f"the chat page is at {url}", flush=True), end)


def main(argv: Sequence[str]) -> int:
    """Parse and run ``demo``."""
    return call(demo, argv)
