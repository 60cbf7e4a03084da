"""An OpenAI-compatible server of a run: ``python -m nextgpt_pl serve``.

Requests pass the gate (token, limits: :mod:`.gate`), are read in threads (:mod:`.bodies`, :mod:`.intake`), are answered
in batches or streamed by the one thread that runs the model (:mod:`.engine`), and are returned in OpenAI's formats
(:mod:`.chat`, :mod:`.media`). Media by URL are fetched on the event loop (:mod:`.fetching`).

The server is FastAPI with uvicorn, not LitServe: the replies of LitServe's OpenAI specification are text, its queue is
not bounded, and a request that its worker process answers cannot be cancelled.
"""
