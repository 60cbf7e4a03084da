"""``score``: the table of routes, judged exactly, for a run on the pocket world."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nextgpt_pl.adapter import WEIGHTS
from nextgpt_pl.config.trust import add_trust
from nextgpt_pl.errors import UserError
from nextgpt_pl.evaluation import pocket_routes as routes
from nextgpt_pl.evaluation.pocket_decoders import decoder_score
from nextgpt_pl.features.keys import file_sha256, fingerprint
from nextgpt_pl.pipeline import AnyToAny
from nextgpt_pl.utils.atomic import write_atomic
from nextgpt_pl.utils.paths import pocket_weights

_FILE = "scores.json"
_UNFINISHED = "scores.unfinished.json"  # never in the other's place: what reads that one wants every row


def score(
    run: Path, count: int = 300, replies: int = 1000, out: Path | None = None, trust: Sequence[str] = ()
) -> dict[str, Any]:
    """Answer held-out dialogues of every route and judge them; prints a table and writes ``scores.json``.

    Each route is written as soon as it is judged; after an interruption the same command does what is missing.

    Args:
        run: folder of the run.
        count: dialogues per route.
        replies: sampled replies in which malformed signal spans are counted.
        out: folder of ``scores.json``; by default the run's.
        trust: dotted names of classes outside this package that the run may name, such as my_package.MyEncoder.

    """
    folder = out or run
    record = _begun(folder, {"count": count, "replies": replies, **_fingerprints(run)})
    model = AnyToAny.from_run(run, trust=trust)
    for route in routes.SCORED:
        if route not in record["routes"]:
            found = routes.score_route(model, route, count)
            record["routes"][route], record["examples"][route] = found.row(), found.examples
            _write(record, folder / _UNFINISHED)
    if "malformed_spans" not in record:
        record["malformed_spans"] = routes.malformed_spans(model, replies)
        _write(record, folder / _UNFINISHED)
    for modality in model.network.decoders:
        if modality.value not in record["decoders"]:
            record["decoders"][modality.value] = decoder_score(modality, count)
            _write(record, folder / _UNFINISHED)
    _write(record, folder / _FILE)
    (folder / _UNFINISHED).unlink(missing_ok=True)
    print("\n".join(" | ".join(row) for row in table_rows(record)))
    return record


def _fingerprints(run: Path) -> dict[str, str]:
    """Of all that a run's answers depend on: what was trained, how it is composed, and the pocket's frozen weights."""
    root = pocket_weights()
    frozen = {file.relative_to(root).as_posix(): file_sha256(file) for file in root.rglob("*.safetensors")}
    return {
        "adapter": file_sha256(run / "adapter" / WEIGHTS),
        "config": file_sha256(run / "config.yaml"),
        "frozen": fingerprint(frozen),
    }


def _begun(folder: Path, of: Mapping[str, Any]) -> dict[str, Any]:
    """What an earlier call has found of the same weights in the same numbers; else an empty record."""
    for file in (folder / _UNFINISHED, folder / _FILE):
        known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        if known and all(known.get(name) == value for name, value in of.items()):
            print(f"{file}: {len(known['routes'])} routes were scored before")
            return dict(known)
    return {**of, "routes": {}, "examples": {}, "decoders": {}}


def _write(record: Mapping[str, Any], file: Path) -> None:
    write_atomic(file, json.dumps(record, indent=2) + "\n")


def table_rows(record: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Route, measure and result, as text.

    Raises:
        UserError: the record is of an earlier version, with fewer routes.

    """
    missing = [route for route in routes.ROUTES if route not in record["routes"]]
    if missing:
        raise UserError(f"{_FILE} has no route {missing[0]!r}: it is of an earlier version; the verb score adds it")
    rows = []
    for route, target in routes.ROUTES.items():
        found = record["routes"][route]
        right, decoder = found["all_right"], record["decoders"].get(route.removeprefix("text->"))
        if decoder is not None and route.startswith("text->"):
            share = right / decoder if decoder else float("nan")
            measured = f"{right:.1%}, {share:.1%} of the decoder's own {decoder:.1%}"
            rows.append((route, f"all attributes right, at least {target:.0%} of the decoder's own", measured))
        else:
            rows.append((route, f"all attributes right, at least {target:.0%}", f"{right:.1%}"))
    asked = [r for r in record["routes"] if r not in routes.SILENT]
    silent = [r for r in record["routes"] if r in routes.SILENT]
    for name, members in (("asked for media", asked), ("not asked for media", silent)):
        items = sum(record["routes"][r]["items"] for r in members)
        right = sum(record["routes"][r]["items"] * record["routes"][r]["kinds_right"] for r in members)
        rows.append((name, "the right kinds and numbers, in order, at least 99%", f"{right / max(1, items):.1%}"))
    rows.append((f"{record['replies']} replies", "malformed signal spans, 0", str(record["malformed_spans"])))
    return rows


def main(argv: Sequence[str]) -> int:
    """Parse and run ``score``."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog="nextgpt_pl score", description=(score.__doc__ or "").split("\n")[0])
    parser.add_function_arguments(score, as_positional=False, skip={"trust"})
    add_trust(parser)
    score(**vars(parser.parse_args(list(argv[1:]))))
    return 0
