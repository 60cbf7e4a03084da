"""``python -m nextgpt_pl VERB ...``: a table of verbs. Nothing heavy is imported before the verb is known."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from nextgpt_pl.errors import UserError, nearest
from nextgpt_pl.utils.memory import asked_too_much
from nextgpt_pl.utils.parents import end_with_starter
from nextgpt_pl.utils.quiet import quieten
from nextgpt_pl.utils.storage import DiskFullError, full_path, is_disk_full

# verb -> where its function of the whole command line is, and what it does
VERBS: dict[str, tuple[str, str]] = {
    "fit": ("nextgpt_pl.verbs.training:run", "train:  fit -c experiments/dec_align.yaml [--model.lr=1e-3 ...]"),
    "validate": (
        "nextgpt_pl.verbs.training:run",
        "validation data once:  validate -c FILE --ckpt_path CHECKPOINT",
    ),
    "test": (
        "nextgpt_pl.verbs.evaluation:test",
        "a run answers tasks, and is scored:  test -c experiments/eval/pocket.yaml --run RUN",
    ),
    "evaluate": ("nextgpt_pl.verbs.evaluation:evaluate", "the scores anew, without the model:  evaluate FOLDER"),
    "data": (
        "nextgpt_pl.verbs.data:main",
        "open every file and report missing, broken and too long items:  data check -c FILE [--workers N];"
        " what is in the data:  data stats -c FILE; any data as shards:  data convert -c FILE;"
        " dialogues by an LLM:  data build -c FILE",
    ),
    "summary": (
        "nextgpt_pl.verbs.summary:main",
        "parameters, memory, operations, hours, without weights:  summary -c experiments/paper/instruct.yaml",
    ),
    "cache": ("nextgpt_pl.verbs.cache:cache", "compute the frozen parts' features beforehand:  cache -c FILE"),
    "inspect": ("nextgpt_pl.verbs.inspect:inspect", "print a batch as a person reads it:  inspect -c FILE"),
    "chat": (
        "nextgpt_pl.verbs.talking:main",
        "talk to a model that is in the package, or to a run:  chat [--run outputs/instruct/RUN]",
    ),
    "generate": (
        "nextgpt_pl.verbs.talking:main",
        'one reply to files:  generate [--run RUN] --prompt "..." [--image FILE] --out DIR',
    ),
    "serve": (
        "nextgpt_pl.verbs.serving:main",
        "an OpenAI-compatible server of a run:  serve [--run outputs/instruct/RUN] [--port 8000]",
    ),
    "demo": ("nextgpt_pl.verbs.demo:main", "talk to trained runs in a browser:  demo [--run outputs/instruct/RUN]"),
    "score": (
        "nextgpt_pl.verbs.score:main",
        "test -c experiments/eval/pocket.yaml, and a table of its routes:  score --run outputs/instruct/RUN",
    ),
    "tour": ("nextgpt_pl.verbs.tour:main", "all three stages on the pocket stack, and one page of what came out"),
    "import": (
        "nextgpt_pl.verbs.convert:main_import",
        "take over an official checkpoint:  import legacy|v2 PATH --out DIR",
    ),
    "export": (
        "nextgpt_pl.verbs.convert:main_export",
        "write an adapter as an official checkpoint:  export legacy|v2 ADAPTER --out DIR",
    ),
    "push": ("nextgpt_pl.verbs.push:main", "put a run on the Hugging Face hub:  push RUN --repo USER/NAME [--out DIR]"),
    "sweep": (
        "nextgpt_pl.verbs.sweeping:main",
        "the runs of a sweep, offline:  sweep experiments/sweeps/projection_size.yaml [--count N] [--jobs N]",
    ),
    "ablate": (
        "nextgpt_pl.verbs.sweeping:main",
        "the runs of a folder of ablations:  ablate experiments/ablations --seeds 0,1,2",
    ),
    "report": (
        "nextgpt_pl.verbs.report:main",
        "tables, figures and samples of runs, grouped over seeds:  report RUN_OR_FOLDER... --out DIR",
    ),
    "pocket": (
        "nextgpt_pl.verbs.pocket:main",
        "make the pocket weights from nothing:  pocket pretrain [--part image]",
    ),
}
_INTERRUPTED = 130  # exit code of shells after Ctrl-C: 128 + SIGINT
# verbs of Lightning that have another name here
ELSEWHERE = {
    "predict": "predictions of a run, as JSONL and media, are written by"
    " test -c experiments/eval/pocket.yaml --run RUN; the reply to one message by generate --run RUN",
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
        hint = f": {ELSEWHERE[verb]}" if verb in ELSEWHERE else nearest(verb, VERBS)
        print(f"error: no verb {verb!r}{hint}", file=sys.stderr)
        return 2
    try:
        end_with_starter()
        quieten()
        module, _, function = VERBS[verb][0].partition(":")
        return int(getattr(importlib.import_module(module), function)(arguments))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return _INTERRUPTED
    except Exception as error:
        message = _of_the_machine(error)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        return 2


def _of_the_machine(error: Exception) -> str | None:
    """What an error says of too little memory or disk space; ``None``: it is about something else."""
    if (asked := asked_too_much(error)) is not None:
        return f"not enough memory ({asked}): set smaller widths, batches or lengths"
    if is_disk_full(error):
        return str(DiskFullError(full_path(error) or Path.cwd(), ". Free some space and run the same command again"))
    return None


if __name__ == "__main__":
    sys.exit(main())
