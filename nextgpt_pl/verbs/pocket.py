"""``pocket``: train, measure, show and pack the pocket weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nextgpt_pl.errors import UserError, nearest
from nextgpt_pl.pocket.pretrain import measure, pretrain, sheet
from nextgpt_pl.verbs.command import call
from nextgpt_pl.verbs.pack import pack

COMMANDS: dict[str, Callable[..., None]] = {"pretrain": pretrain, "measure": measure, "sheet": sheet, "pack": pack}


def main(argv: Sequence[str]) -> int:
    """Parse and run ``pocket COMMAND ...``.

    Raises:
        UserError: there is no such command, or an argument is wrong.

    """
    name, *arguments = argv[1:] or [""]
    if name in ("-h", "--help"):
        rows = [f"  {command:<10} {(function.__doc__ or '').splitlines()[0]}" for command, function in COMMANDS.items()]
        print("\n".join(["usage: nextgpt_pl pocket COMMAND [arguments]\n", *rows]))
        return 0
    if name not in COMMANDS:
        problem = f"no command {name!r}" if name else "a command is expected"
        raise UserError(f"pocket: {problem}{nearest(name, COMMANDS)}")
    call(COMMANDS[name], [f"pocket {name}", *arguments])
    return 0
