"""What the server counts for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250)


class Metrics:
    """The metrics of one server.

    Attributes:
        registry: all of them.
        requests: finished requests by route and status.
        seconds: from a request to its response's end, by route.
        first_text: seconds from a streamed request to its first text.
        in_work: requests that wait or are answered.
        batch_size: sizes of batches.
        tokens: tokens of prompts and of replies.
        media: generated media by modality.

    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("nextgpt_requests", "Finished requests", ["route", "status"], registry=registry)
        self.seconds = Histogram(
            "nextgpt_request_seconds", "Duration of requests", ["route"], buckets=_SECONDS, registry=registry
        )
        self.first_text = Histogram(
            "nextgpt_first_text_seconds", "Time to the first text of streams", buckets=_SECONDS, registry=registry
        )
        self.in_work = Gauge("nextgpt_requests_in_work", "Requests that wait or are answered", registry=registry)
        self.batch_size = Histogram(
            "nextgpt_batch_size", "Requests answered together", buckets=(1, 2, 4, 8, 16, 32, 64), registry=registry
        )
        self.tokens = Counter("nextgpt_tokens", "Tokens of prompts and replies", ["kind"], registry=registry)
        self.media = Counter("nextgpt_media", "Generated media", ["modality"], registry=registry)
