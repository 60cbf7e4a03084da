"""``python -m nextgpt_pl VERB ...``: a table of verbs. Nothing heavy is imported before the verb is known."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from nextgpt_pl.errors import UserError, nearest


def _trainer_verb(argv: list[str]) -> int:
    from nextgpt_pl.cli import run

    return run(argv)


def _pocket(argv: list[str]) -> int:
    from nextgpt_pl.pocket.pretrain import main as pocket_main

    return pocket_main(argv[1:])


def _talking(argv: list[str]) -> int:
    from nextgpt_pl.verbs.talking import main as talking_main

    return talking_main(argv)


def _inspect(argv: list[str]) -> int:
    from nextgpt_pl.verbs.inspect import inspect

    return inspect(argv)


def _score(argv: list[str]) -> int:
    from nextgpt_pl.verbs.score import main as score_main

    return score_main(argv)


def _tour(argv: list[str]) -> int:
    from nextgpt_pl.verbs.tour import main as tour_main

    return tour_main(argv)


# verb -> function of the whole command line, and what it does
VERBS: dict[str, tuple[Callable[[list[str]], int], str]] = {
    "fit": (_trainer_verb, "train:  fit -c experiments/dec_align.yaml [--model.lr=1e-3 ...]"),
    "validate": (_trainer_verb, "one pass over the validation data:  validate -c FILE --ckpt_path CHECKPOINT"),
    "test": (_trainer_verb, "one pass over the test data:  test -c FILE --ckpt_path CHECKPOINT"),
    "predict": (_trainer_verb, "write predictions:  predict -c FILE --ckpt_path CHECKPOINT"),
    "inspect": (_inspect, "print a batch as a person reads it:  inspect -c FILE"),
    "chat": (_talking, "talk to a trained run:  chat --run outputs/instruct/RUN"),
    "generate": (_talking, 'one reply to files:  generate --run RUN --prompt "..." [--image FILE] --out DIR'),
    "score": (_score, "the table of routes, judged exactly:  score --run outputs/instruct/RUN"),
    "tour": (_tour, "all three stages on the pocket stack, and one page of what came out"),
    "pocket": (_pocket, "make the pocket weights from nothing:  pocket pretrain [--part image]"),
}


def usage() -> str:
    """The help text."""
    rows = "\n".join(f"  {verb:<10} {text}" for verb, (_, text) in VERBS.items())
    return (
        "usage: python -m nextgpt_pl VERB [arguments]\n\n"
        "PyTorch Lightning framework for NExT-GPT, the any-to-any multimodal LLM.\n\n"
        f"{rows}\n\n"
        "VERB --help lists a verb's arguments. Any key of a YAML can be set on the command line:\n"
        "  python -m nextgpt_pl fit -c experiments/dec_align.yaml --model.lr=1e-3 --trainer.max_steps=100"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb; mistakes of the user end with one message and exit code 2."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if arguments else 2
    verb = arguments[0]
    if verb not in VERBS:
        print(f"error: no verb {verb!r}{nearest(verb, VERBS)}", file=sys.stderr)
        return 2
    try:
        return VERBS[verb][0](arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
