"""The page: components of Gradio and their events."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from nextgpt_pl.demo.models import Models
from nextgpt_pl.demo.pane import STYLE, pane_html
from nextgpt_pl.demo.replies import Settings, reply
from nextgpt_pl.demo.session import Session
from nextgpt_pl.demo.uploads import Limits
from nextgpt_pl.errors import UserError
from nextgpt_pl.generation.decoding import Decoding
from nextgpt_pl.modality import GENERATED, MODALITIES, Modality

TITLE = "nextgpt_pl"
EXAMPLES = (
    "Draw a large red star in the center on black.",
    "Make a video of a small blue circle moving left on white.",
    "Play two short high bells.",
    "Which shapes do you know?",
)
_INPUTS = (Modality.IMAGE, Modality.VIDEO, Modality.AUDIO)  # depth and others are arrays, which browsers do not show
_DECIDES, _CHOSEN = "the model decides", "only these:"
_DAY = 86_400
# all events that use the model: one after the other
_ONE_AT_A_TIME: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1}
_HIDDEN: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def serve(
    page: gr.Blocks, limits: Limits, host: str = "127.0.0.1", port: int | None = None, *, wait: bool = True
) -> str:
    """Serve the page, and return its address.

    Args:
        page: of :func:`build_page`.
        limits: bounds on messages.
        host: address to listen at.
        port: port to listen at; ``None``: a free one.
        wait: return when the server has been interrupted.

    Raises:
        UserError: the address or port cannot be used.

    """
    try:
        _, address, _ = page.launch(
            server_name=host,
            server_port=port,
            prevent_thread_lock=not wait,
            max_file_size=limits.bytes,
            css=STYLE + "footer { display: none !important; }",
            footer_links=[],
            ssr_mode=False,
            share=False,
            mcp_server=False,
        )
    except OSError as error:
        raise UserError(f"--host {host} --port {port}: {error}") from error
    return str(address)


def build_page(models: Models, limits: Limits, folder: Path) -> gr.Blocks:
    """The page, which :func:`serve` serves.

    Args:
        models: the runs that it offers.
        limits: bounds on messages.
        folder: of generated media.

    """
    handlers = _Handlers(models, limits, folder)
    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True, delete_cache=(3600, _DAY)) as page:
        session = gr.State(None, time_to_live=_DAY, delete_callback=_close)
        with gr.Row():
            with gr.Column(scale=3):
                chat = gr.Chatbot(
                    label="conversation",
                    render_markdown=False,
                    latex_delimiters=[],
                    allow_tags=False,
                    height="60vh",
                    buttons=[],
                    examples=[{"text": text} for text in EXAMPLES],
                    elem_id="chat",
                )
                box = gr.MultimodalTextbox(
                    show_label=False,
                    placeholder="a message, with images, videos and sounds",
                    sources=["upload", "microphone"],
                    file_count="multiple",
                    file_types=[suffix for m in _INPUTS for suffix in MODALITIES[m].suffixes],
                    elem_id="box",
                )
                with gr.Row():
                    stop, retry, clear = (
                        gr.Button(name, size="sm", min_width=80, elem_id=name.lower())
                        for name in ("Stop", "Retry", "Clear")
                    )
            with gr.Column(scale=2):
                controls = _controls(list(models.folders))
                with gr.Accordion("What the model wrote", open=False):
                    recorded = gr.Checkbox(False, label="record each reply, from the next one on", elem_id="recorded")
                    pane = gr.HTML("", elem_id="pane")
        inputs, outputs = [session, *controls, recorded], [session, chat, pane]
        gr.on([box.submit], handlers.send, [box, *inputs], [box, *outputs], **_ONE_AT_A_TIME, **_HIDDEN)
        retry.click(handlers.retry, inputs, outputs, **_ONE_AT_A_TIME, **_HIDDEN)
        # at once, beside the reply that it stops
        stop.click(_stop, [session], None, queue=False, **_HIDDEN)
        # when the reply that it stops has ended
        gr.on([clear.click, chat.clear], _stop, [session], None, queue=False, **_HIDDEN).then(
            _clear, [session], outputs, **_ONE_AT_A_TIME, **_HIDDEN
        )
        chat.example_select(_chosen, None, box, queue=False, **_HIDDEN)
    return page


def _controls(runs: list[str]) -> list[Any]:
    """The components of :class:`Settings`, in its order, with the choice of modalities as two components."""
    default = Decoding()
    run = gr.Dropdown(runs, value=runs[0], label="run", elem_id="run", filterable=True)
    with gr.Accordion("Controls", open=False):
        decides = gr.Radio([_DECIDES, _CHOSEN], value=_DECIDES, label="media of the reply", elem_id="decides")
        media = gr.CheckboxGroup([(f"{m}s", m.value) for m in GENERATED], show_label=False, elem_id="media")
        with gr.Row():
            seed = gr.Number(default.seed, label="seed", precision=0, min_width=100)
            tokens = gr.Number(default.max_new_tokens, label="max tokens", precision=0, min_width=100)
        temperature = gr.Slider(0, 2, default.temperature, step=0.05, label="temperature (0: greedy)")
        with gr.Row():
            guidance = gr.Number(0, label="guidance (0: own)", min_width=120)
            steps = gr.Number(0, label="steps (0: own)", precision=0, min_width=120)
    return [run, decides, media, seed, temperature, tokens, guidance, steps]


def settings_of(
    run: str,
    decides: str,
    media: list[str],
    seed: int,
    temperature: float,
    tokens: int,
    guidance: float,
    steps: int,
    recorded: bool,
) -> Settings:
    """The settings of the controls' values; Gradio shows an empty number as 0."""
    modalities = list(media) if decides == _CHOSEN else None
    return Settings(run, modalities, seed, temperature, tokens, guidance or None, steps or None, recorded)


class _Handlers:
    """What events call; the arguments are values of components."""

    def __init__(self, models: Models, limits: Limits, folder: Path) -> None:
        self._models, self._limits, self._folder = models, limits, folder

    def send(self, message: dict[str, Any] | None, session: Session | None, *controls: Any) -> Iterator[Any]:
        """Answer a message; the box is emptied."""
        session = session or Session.begin(self._folder)
        given = message or {}
        for shown in self._answer(session, given.get("text") or "", list(given.get("files") or []), *controls):
            yield None, *shown

    def retry(self, session: Session | None, *controls: Any) -> Iterator[Any]:
        """Answer the last message again."""
        asked = session.undo() if session is not None else None
        if session is None or asked is None:
            yield session, gr.skip(), gr.skip()
            return
        yield from self._answer(session, *asked, *controls)

    def _answer(self, session: Session, text: str, files: list[str], *controls: Any) -> Iterator[Any]:
        for loaded in reply(session, self._models, self._limits, text, files, settings_of(*controls)):
            yield session, session.shown, pane_html(session.records, loaded.nearest if loaded else None)


def _stop(session: Session | None) -> None:
    if session is not None:
        session.stop.set()


def _clear(session: Session | None) -> tuple[None, list[Any], str]:
    _close(session)
    return None, [], ""


def _close(session: Session | None) -> None:
    if session is not None:
        session.close()


def _chosen(event: gr.SelectData) -> dict[str, Any]:
    return {"text": event.value["text"], "files": []}
