"""``chat`` and ``generate``: use a trained run in the terminal, with media as files."""

from __future__ import annotations

import io
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nextgpt_pl.errors import UserError
from nextgpt_pl.media.files import is_file
from nextgpt_pl.media.writing import save
from nextgpt_pl.modality import MODALITIES, Modality, modality_of_file
from nextgpt_pl.samples import ReplyPart
from nextgpt_pl.utils.paths import CHAT_RUN
from nextgpt_pl.verbs.command import call

_HELP = """Write a message and press Enter. To show a medium, write its path: a file that ends like an image, a video or
a sound is shown to the model. Ctrl-C ends a reply, /new begins a new conversation, /quit ends."""


def chat(
    run: Path = CHAT_RUN,
    out: Path = Path("outputs/chat"),
    seed: int = 0,
    temperature: float = 0.0,
    max_new_tokens: int = 160,
    trust: Sequence[str] = (),
) -> None:
    """Chat with a trained run; generated media are saved.

    Args:
        run: folder of the run; by default that of the package, which knows the pocket world.
        out: folder of the generated media.
        seed: seed of sampling and noise; increased by one for each reply.
        temperature: sampling temperature; 0 is greedy decoding.
        max_new_tokens: maximum number of tokens of a reply.
        trust: dotted names of classes outside this package that the run may name, such as my_package.MyEncoder.

    """
    from nextgpt_pl.dialogue.context import dropped_note
    from nextgpt_pl.pipeline import AnyToAny

    model = AnyToAny.from_run(run, trust=trust)
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # bytes that are not UTF-8 become U+FFFD
    print(_HELP)
    messages: list[Mapping[str, Any]] = []
    while (line := _read()) is not None:
        if line == "/new":
            messages.clear()
            continue
        try:
            turn = {"role": "user", "content": content_of(line)}
            options: dict[str, Any] = {"temperature": temperature, "max_new_tokens": max_new_tokens}
            kept = list(model.within_context([*messages, turn], max_new_tokens))
            if dropped := len(messages) + 1 - len(kept):
                print(f"note: {dropped_note(dropped)}")
            reply = printed(model.stream(kept, seed=seed, **options), out)
        except UserError as error:
            print(f"error: {error}")
            continue
        except KeyboardInterrupt:
            print("\nstopped; the message and what there is of its reply are not kept")
            continue
        messages = [*kept, {"role": "assistant", "content": reply}]
        seed += 1


def _read() -> str | None:
    """The next line that is not blank; ``None`` at the end."""
    while True:
        try:
            line = input("you: ").strip()
        except (EOFError, KeyboardInterrupt):
            print()
            return None
        if line:
            return None if line in ("/quit", "/exit") else line


def printed(stream: Iterator[ReplyPart], out: Path) -> list[ReplyPart]:
    """Print a reply while it is generated, save its media, and return its parts, with whole texts."""
    from nextgpt_pl.generation.streaming import joined

    parts: list[ReplyPart] = []
    print("model: ", end="", flush=True)
    for part in stream:
        text = part.text if part.type == "text" else with_words(part, str(save_part(part, out)))
        if parts and not part.type == parts[-1].type == "text":
            print()
        print(text, end="", flush=True)
        parts.append(part)
    print()
    return joined(parts)


def content_of(line: str) -> list[dict[str, str]]:
    """A typed line as parts: words that are paths with a known extension are media; trailing punctuation is ignored.

    A single medium is put before the text, as in training data.

    Raises:
        UserError: a word looks like a medium's path, but there is no such file.

    """
    try:
        words = shlex.split(line, posix=True) if any(q in line for q in "\"'") else line.split()
    except ValueError:  # an apostrophe is not a quotation mark
        words = line.split()
    parsed_words = [(word, _medium(word)) for word in words]
    if sum(medium is not None for _, medium in parsed_words) == 1:
        parsed_words.sort(key=lambda pair: pair[1] is None)  # stable: the medium, then the words in their order
    parts: list[dict[str, str]] = []
    for word, medium in parsed_words:
        if medium is not None:
            parts.append(medium)
        elif parts and parts[-1]["type"] == "text":
            parts[-1]["text"] += f" {word}"
        else:
            parts.append({"type": "text", "text": word})
    return parts


def _medium(word: str) -> dict[str, str] | None:
    """The medium of a word; ``None`` if the word is not a medium's path."""
    name = word.rstrip(",;:.?!")
    try:
        modality = modality_of_file(name)
    except ValueError:
        return None
    path = Path(name).expanduser()
    if not is_file(path):
        raise UserError(f"no such file: {name}")
    return {"type": modality.value, modality.value: str(path)}


def save_part(part: ReplyPart, out: Path) -> Path:
    """Save a generated medium under the next free number."""
    modality = Modality(part.type)
    assert part.array is not None
    out.mkdir(parents=True, exist_ok=True)
    number = 1
    while (path := out / f"{modality}_{number:03d}{MODALITIES[modality].sample_suffix}").exists():
        number += 1
    save(part.array, modality, path, part.rate)
    return path


def with_words(part: ReplyPart, file: str) -> str:
    """The name of a medium's file, with the words that the LLM wrote for it and with its origin, if they are known."""
    words = f"{file}: {part.caption}" if part.caption else file
    return f"{words} ({part.origin})" if part.origin else words


_ENDINGS = {m: " ".join(spec.suffixes or (spec.sample_suffix,)) for m, spec in MODALITIES.items()}
if TYPE_CHECKING:
    InputMedia = Any
else:
    #: input media of one message: a list of files for each row of the table of modalities
    InputMedia = make_dataclass(
        "InputMedia",
        [(m.value, list[Path] | None, None) for m in MODALITIES],
        namespace={
            "__doc__": "Input media.\n\nArgs:\n"
            + "\n".join(f"    {m}: input files of {m}: {_ENDINGS[m]}." for m in MODALITIES)
        },
    )


def generate(
    prompt: str,
    out: Path,
    media: InputMedia,
    run: Path = CHAT_RUN,
    modalities: list[str] | None = None,
    seed: int = 0,
    temperature: float = 0.0,
    max_new_tokens: int = 160,
    trust: Sequence[str] = (),
) -> None:
    """Write the reply to one prompt to files.

    Args:
        prompt: text of the prompt; the media are put before it.
        out: output folder of ``reply.txt`` and the media that it names.
        media: input media, a list of files per modality.
        run: folder of the run; by default that of the package, which knows the pocket world.
        modalities: modalities that the reply must contain; an empty list forbids all.
        seed: seed of sampling and noise.
        temperature: sampling temperature; 0 is greedy decoding.
        max_new_tokens: maximum number of tokens of the reply.
        trust: dotted names of classes outside this package that the run may name, such as my_package.MyEncoder.

    """
    from nextgpt_pl.generation.streaming import joined
    from nextgpt_pl.pipeline import AnyToAny
    from nextgpt_pl.readers.chat import user_message

    message = user_message(prompt, {m: getattr(media, m.value) for m in MODALITIES})
    model = AnyToAny.from_run(run, trust=trust)
    lines = []
    options: dict[str, Any] = {"modalities": modalities, "temperature": temperature, "max_new_tokens": max_new_tokens}
    for part in joined(model.stream([message], seed=seed, **options)):
        lines.append(part.text or with_words(part, save_part(part, out).name))
        print(lines[-1], flush=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / "reply.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"reply: {out}", file=sys.stderr)


def main(argv: Sequence[str]) -> int:
    """Parse and run ``chat`` or ``generate``."""
    call(chat if argv[0] == "chat" else generate, argv)
    return 0
