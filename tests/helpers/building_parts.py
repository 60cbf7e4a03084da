"""A media source that renders scenes, a server with planted faults, and builds on both."""

import json
import threading
import time
from collections import Counter
from pathlib import Path

from nextgpt_pl.building import Build, Endpoint, MediaSource, Prompts, Template
from nextgpt_pl.building.answers import encoded
from nextgpt_pl.building.journal import DialogueRecord, records
from nextgpt_pl.building.media import Found
from nextgpt_pl.building.pocket_server import Asked, Response, asked, completion, respond, written
from nextgpt_pl.media.reading import array_of
from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.pocket.judges.media import judge, matches
from nextgpt_pl.pocket.judges.text import judge_text
from nextgpt_pl.pocket.world.items import rendered
from nextgpt_pl.pocket.world.turns import SceneRenderer
from nextgpt_pl.samples import Media

LINES = "Dialogue: {{ number }}\nKinds: {{ kinds | join(', ') }}\nExchanges: {{ exchanges }}"


class Rendered(MediaSource):
    """Renders the scene that a caption describes.

    Args:
        interrupt_at: raise a KeyboardInterrupt instead of finding medium number ``interrupt_at``.

    """

    def __init__(self, interrupt_at: int | None = None) -> None:
        self.left = interrupt_at

    def find(self, wanted):
        if self.left is not None:
            self.left -= len(wanted)
            if self.left < 0:
                raise KeyboardInterrupt
        return [self._found(w) for w in wanted]

    def _found(self, wanted):
        scene = judge_text(wanted.caption, wanted.modality)
        medium = rendered(wanted.modality, SceneRenderer(scene, str(wanted.seed)))
        return Found(medium, wanted.caption, "drawn", 1)


class Faulty:
    """Responds as the pocket world's server; the first requests for a dialogue get planted faults.

    Args:
        faults: per number of a dialogue, names of faults, or numbers of dialogues whose text it gets.
        delay: seconds before each response.

    """

    def __init__(self, faults=None, delay=0.0):
        self.faults = {number: list(names) for number, names in (faults or {}).items()}
        self.delay, self.requests, self.lock = delay, [], threading.Lock()
        self.held, self.gate = None, threading.Event()

    def hold_from(self, number):
        """Let the requests wait that are for dialogues from a number on; those that waited before go on."""
        self.gate.set()
        self.held, self.gate = number, threading.Event()

    @property
    def numbers(self):
        """How often each dialogue was requested."""
        return Counter(asked(request).number for request in self.requests)

    def __call__(self, request):
        wanted = asked(request)
        with self.lock:
            self.requests.append(request)
            gate = self.gate if self.held is not None and wanted.number >= self.held else None
        if gate is not None:
            gate.wait(60)
        with self.lock:
            names = self.faults.get(wanted.number, [])
            fault = names.pop(0) if names else None
        time.sleep(self.delay)
        return respond(request) if fault is None else _fault(fault, request, wanted)


def _fault(fault, request, wanted):
    responses = {
        "busy": Response(429, {"error": {"message": "too many requests"}}, {"retry-after-ms": "1"}),
        "error": Response(503, {"error": {"message": "overloaded"}}, {"retry-after-ms": "1"}),
        "drop": None,
    }
    if fault in responses:
        return responses[fault]
    prompt, text = str(request["messages"]), json.dumps({"messages": encoded(written(wanted))})
    if isinstance(fault, int):
        same = Asked(fault, wanted.kinds, wanted.exchanges)
        return Response(200, completion(json.dumps({"messages": encoded(written(same))}), prompt))
    if fault == "cut":
        return Response(200, completion(text[: len(text) // 2], prompt, "length"))
    if fault == "refused":
        body = completion("", prompt)
        body["choices"][0]["message"]["refusal"] = "I cannot help with that."
        return Response(200, body)
    if fault == "no usage":
        return Response(200, {k: v for k, v in completion(text, prompt).items() if k != "usage"})
    changed = {
        "prose": "Sorry, I would rather not write JSON.",
        "broken": text[: len(text) // 2] + "}",
        "fence": f"Here you are:\n```json\n{text}\n```",
        "schema": text.replace('"role"', '"speaker"'),
        "kinds": text.replace('"type": "text", "text"', '"type": "video", "caption"'),
        "placeholder": text.replace('"text": "', '"text": "<image> ', 1),
        "surrogate": text.replace('"text": "', '"text": "\\ud800', 1),
        "roles": text.replace('"role": "user"', '"role": "assistant"'),
    }[fault]
    return Response(200, completion(changed, prompt))


def prompts(**options):
    return Prompts(
        ["shapes", "sounds"],
        [Template(LINES, "Write about {{ topic }}.")],
        **{"exchanges": (2, 3), "kinds": ["image", "video", "audio"], **options},
    )


def endpoint(url, **options):
    return Endpoint(url, "pocket", **{"key_variable": None, "concurrency": 4, **options})


def build(url, count, source=None, **options):
    media = {modality.value: [source or Rendered()] for modality in GENERATED}
    return Build(endpoint(url), prompts(), media, count, **options)


def same_kinds(count, seed=0):
    """Pairs of numbers of dialogues, the second one behind, whose requests want the same kinds and exchanges."""
    first, pairs = {}, []
    for number in range(count):
        plan = prompts().plan(number, seed)
        key = frozenset(plan.kinds), plan.exchanges
        if key in first and Modality.VIDEO not in plan.kinds:
            pairs.append((first.pop(key), number))
        else:
            first[key] = number
    return pairs


def scenes_agree(folder):
    """Per kept dialogue of a build, whether each medium shows what its caption says, by the exact judges."""
    return {r.number: list(_agreeing(r, folder)) for r in records(folder) if isinstance(r, DialogueRecord) and r.row}


def _agreeing(record, folder):
    names = [(m, n) for m in GENERATED for side in ("input", "output") for n in record.row.get(f"{side}_{m}", [])]
    assert len(names) == len(record.captions)
    for m, name in names:
        caption = record.captions[int(name.removesuffix(Path(name).suffix).split("_")[1])]
        array, _ = array_of(Media(m, folder / f"{m}s" / name))
        yield all(matches(judge(array, m), judge_text(caption, m)).values())
