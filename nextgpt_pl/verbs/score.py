"""``score``: score all routes of the pocket world, as ``test -c experiments/eval/pocket.yaml`` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nextgpt_pl.errors import UserError, no_file
from nextgpt_pl.utils.paths import CHAT_RUN
from nextgpt_pl.verbs.command import call
from nextgpt_pl.verbs.evaluation import parse, run_tasks

CONFIG = Path("experiments/eval/pocket.yaml")
#: path of the results below a run's folder
RESULTS = Path("eval/pocket/scores.json")
#: routes of the table, and the share of right replies that each should reach
ROUTES: dict[str, float] = {
    "image->text": 0.95,
    "video->text": 0.90,
    "audio->text": 0.90,
    "text->image": 0.95,
    "text->video": 0.95,
    "text->audio": 0.95,
    "image->video": 0.85,
    "audio->image": 0.85,
    "image+text->image": 0.85,
    "text->image+audio": 0.85,
    "text->image+image": 0.85,
    "brief": 0.90,
    "twins": 0.85,
    "question": 0.90,
    "asked back": 0.90,
    "beyond": 0.90,
}
# routes that ask for no medium
_SILENT = ("image->text", "video->text", "audio->text", "question", "asked back", "beyond", "text->text")


def score(
    run: Path = CHAT_RUN,
    count: int | None = None,
    replies: int | None = None,
    out: Path | None = None,
    config: Path = CONFIG,
    trust: Sequence[str] = (),
) -> dict[str, Any]:
    """Score held-out dialogues of all routes, as ``test -c experiments/eval/pocket.yaml`` does.

    Prints a table of the routes after the report of ``test``. After an interruption, the same command continues.

    Args:
        run: folder of the run; by default that of the package.
        count: number of dialogues per route; by default that of the YAML.
        replies: number of sampled replies in which malformed signal spans are counted; by default that of the YAML.
        out: folder of the predictions and of ``scores.json``; by default ``eval/pocket`` in the run's folder, or in
            ``outputs/chat`` for the run of the package.
        config: YAML with the tasks.
        trust: dotted names of classes outside this package that the run may name, such as my_package.MyEncoder.

    Returns:
        The content of ``scores.json``; empty on all ranks but the first.

    Raises:
        UserError: the YAML is missing, or the folder holds predictions of other settings or other weights.

    """
    if not config.is_file():
        raise UserError(f"{no_file(config)}; --config names another file")
    folder = ["--out", str(out)] if out is not None else []
    parser, settings = parse("test", ["-c", str(config), "--run", str(run), *folder])
    settings.trust = list(trust)
    for task in settings.tasks:
        number = replies if task.class_path.endswith(".PocketReplies") else count
        if number is not None:
            task.init_args.count = number
    record = run_tasks(parser, settings)
    if record:
        print("\n".join(" | ".join(row) for row in table_rows(record)))
    return record


def table_rows(record: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Rows of route, measure and result, from the content of ``scores.json``.

    Raises:
        UserError: the scores of a route or of the sampled replies are missing.

    """
    rows = []
    for route, target in ROUTES.items():
        task = _task(record, route)
        right, decoder = task["scores"]["all right"]["value"], task["paper"].get("all right")
        if decoder is not None:
            share = right / decoder if decoder else float("nan")
            measured = f"{right:.1%}, {share:.1%} of the decoder's own {decoder:.1%}"
            rows.append((route, f"all attributes right, at least {target:.0%} of the decoder's own", measured))
        else:
            rows.append((route, f"all attributes right, at least {target:.0%}", f"{right:.1%}"))
    asked = [route for route in ROUTES if route not in _SILENT]
    for name, members in (("asked for media", asked), ("not asked for media", _SILENT)):
        kinds = [_task(record, route)["scores"]["right kinds"] for route in members]
        share = sum(k["count"] * k["value"] for k in kinds) / sum(k["count"] for k in kinds)
        rows.append((name, "the right kinds and numbers, in order, at least 99%", f"{share:.1%}"))
    sampled = _task(record, "sampled replies")
    malformed = sampled["scores"]["malformed spans"]["value"]
    rows.append((f"{sampled['items']} replies", "malformed signal spans, 0", f"{malformed:g}"))
    return rows


def _task(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    task = record.get("tasks", {}).get(f"pocket {name}", {})
    if not task.get("items"):
        raise UserError(f"scores.json has no replies to {name!r}; score --run RUN adds them")
    return task


def main(argv: Sequence[str]) -> int:
    """Parse and run ``score``."""
    call(score, argv)
    return 0
