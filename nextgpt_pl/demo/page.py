"""The page: components of Gradio and their events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI
from starlette.routing import Mount

from nextgpt_pl.demo import handlers
from nextgpt_pl.demo.examples import Abilities
from nextgpt_pl.demo.handlers import CHOSEN, DECIDES, Handlers, media_of
from nextgpt_pl.demo.models import Models
from nextgpt_pl.demo.style import STYLE
from nextgpt_pl.demo.uploads import Limits
from nextgpt_pl.generation.decoding import Decoding
from nextgpt_pl.modality import MODALITIES, Modality

TITLE = "nextgpt_pl"
_INPUTS = (Modality.IMAGE, Modality.VIDEO, Modality.AUDIO)  # depth and others are arrays, which browsers do not show
_DAY = 86_400
# all events that use the model: one after the other
_ONE_AT_A_TIME: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1}
_HIDDEN: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_AT_ONCE: dict[str, Any] = {"queue": False, **_HIDDEN}  # beside a reply that is being generated


def application(page: gr.Blocks, limits: Limits) -> FastAPI:
    """The application that serves a page.

    Args:
        page: of :func:`build_page`.
        limits: bounds on messages.

    """
    return gr.mount_gradio_app(
        FastAPI(openapi_url=None),
        page,
        path="/",
        max_file_size=limits.bytes,
        css=STYLE,
        footer_links=[],
        ssr_mode=False,
        mcp_server=False,
    )


def end_connections(app: FastAPI) -> None:
    """End the streams that browsers hold for as long as they show the page.

    Args:
        app: of :func:`application`, in the thread of its event loop.

    """
    for route in app.routes:
        if isinstance(route, Mount) and isinstance(route.app, gr.routes.App):
            route.app.stop_event.set()


def build_page(models: Models, limits: Limits, folder: Path) -> gr.Blocks:
    """The page.

    Args:
        models: the runs that it offers.
        limits: bounds on messages.
        folder: of generated media.

    """
    called = Handlers(models, limits, folder)
    runs = list(models.folders)
    abilities = called.abilities(runs[0])
    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True, delete_cache=(3600, _DAY)) as page:
        session = gr.State(None, time_to_live=_DAY, delete_callback=handlers.close)
        with gr.Row():
            with gr.Column(scale=3):
                chat, box = _conversation(called.examples(abilities))
                with gr.Row():
                    buttons = [_button("Stop", interactive=False), _button("Retry"), _button("Clear")]
            with gr.Column(scale=2):
                controls = _controls(runs, abilities)
                with gr.Accordion("What the model wrote", open=False):
                    controls.append(
                        gr.Checkbox(False, label="record each reply, from the next one on", elem_id="recorded")
                    )
                    pane = gr.HTML("", elem_id="pane")
        _connect(called, session, chat, box, buttons, controls, pane)
    return page


def _connect(
    called: Handlers,
    session: gr.State,
    chat: gr.Chatbot,
    box: gr.MultimodalTextbox,
    buttons: list[gr.Button],
    controls: list[Any],
    pane: gr.HTML,
) -> None:
    """Connect the events of the page's components with their handlers."""
    stop, retry, clear = buttons
    for taken in (  # in Gradio's queue: only events in it can show warnings
        box.submit(called.take, [box, session], [box, session, chat, stop], **_HIDDEN),
        retry.click(called.again, [session], [session, chat, stop], **_HIDDEN),
    ):
        taken.then(called.answer, [session, *controls], [session, chat, pane, stop], **_ONE_AT_A_TIME, **_HIDDEN)
    stop.click(handlers.stop, [session], None, **_AT_ONCE)
    # when the reply that it stops has ended
    gr.on([clear.click, chat.clear], handlers.stop, [session], None, **_AT_ONCE).then(
        handlers.clear, [session], [session, chat, pane], **_ONE_AT_A_TIME, **_HIDDEN
    )
    run, _, media, *_ = controls
    run.change(called.chosen_run, [run], [chat, media], **_AT_ONCE)
    chat.example_select(handlers.chosen_example, None, box, **_AT_ONCE)


def _button(name: str, *, interactive: bool = True) -> gr.Button:
    return gr.Button(name, size="sm", min_width=80, elem_id=name.lower(), interactive=interactive)


def _conversation(examples: list[Any]) -> tuple[gr.Chatbot, gr.MultimodalTextbox]:
    """The conversation, with examples of messages while it is empty, and the box for the next message."""
    chat = gr.Chatbot(
        label="conversation",
        render_markdown=False,
        latex_delimiters=[],
        allow_tags=False,
        height="70vh",
        buttons=[],
        examples=examples,
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
    return chat, box


def _controls(runs: list[str], abilities: Abilities) -> list[Any]:
    """The components of :func:`~nextgpt_pl.demo.handlers.settings_of`, in its order, but the last one.

    Args:
        runs: names of the runs, of which the first is chosen.
        abilities: of the chosen run.

    """
    default = Decoding()
    run = gr.Dropdown(runs, value=runs[0], label="run", elem_id="run", filterable=True)
    with gr.Accordion("Controls", open=False):
        decides = gr.Radio([DECIDES, CHOSEN], value=DECIDES, label="media of the reply", elem_id="decides")
        media = gr.CheckboxGroup(media_of(abilities), show_label=False, elem_id="media")
        with gr.Row():
            seed = gr.Number(default.seed, label="seed", precision=0, min_width=100)
            tokens = gr.Number(default.max_new_tokens, label="max tokens", precision=0, min_width=100)
        temperature = gr.Slider(0, 2, default.temperature, step=0.05, label="temperature (0: greedy)")
        with gr.Row():
            guidance = gr.Number(0, label="guidance (0: own)", min_width=120)
            steps = gr.Number(0, label="steps (0: own)", precision=0, min_width=120)
    return [run, decides, media, seed, temperature, tokens, guidance, steps]
