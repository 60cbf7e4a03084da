"""``data``: the table of verbs that work on data; each has a module of its own."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from nextgpt_pl.errors import UserError

# verb -> where its function of the arguments behind the verb is; the function returns the exit code
VERBS = {
    "check": "nextgpt_pl.verbs.checking:check",
    "stats": "nextgpt_pl.verbs.stats:stats",
    "convert": "nextgpt_pl.verbs.converting:convert",
    "build": "nextgpt_pl.verbs.building:build",
    "index-gallery": "nextgpt_pl.verbs.galleries:index_gallery",
}


def main(argv: Sequence[str]) -> int:
    """Run ``data VERB ...``, and return the verb's exit code.

    Raises:
        UserError: there is no such verb.

    """
    verb = argv[1] if len(argv) > 1 else ""
    if verb not in VERBS:
        example = "data check -c experiments/eval/paper.yaml"
        raise UserError(f"{' '.join(argv[:2])}: expected one of {', '.join(VERBS)}, such as {example}")
    module, _, function = VERBS[verb].partition(":")
    return int(getattr(importlib.import_module(module), function)(list(argv[2:])))
