"""Media that a row lists beside its turns. They are assigned to the placeholders of the turns in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import PurePosixPath
from typing import Any, Literal

from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import MODALITIES, Modality
from nextgpt_pl.readers.place import Place
from nextgpt_pl.readers.tars import sample_media
from nextgpt_pl.readers.turns import Turn, is_medium
from nextgpt_pl.readers.values import exact_captions_of, take
from nextgpt_pl.samples import Media, MediaPart, Part, Role, TextPart

Use = Literal["shown", "made", "either", "captions", "embeddings"]

# shown by the user, made by the assistant, or of the speaker whose placeholder is next
_USES: dict[str, tuple[Modality, Use]] = {}
for _m in MODALITIES:
    _USES |= {f"input_{_m}": (_m, "shown"), f"output_{_m}": (_m, "made"), _m.value: (_m, "either")}
    _USES |= {f"{_m}s": (_m, "either"), f"{_m}_captions": (_m, "captions")}
    _USES |= {f"{_m}_caption_embeddings": (_m, "embeddings")}


def _as_list(row: dict[str, Any], key: str) -> list[Any]:
    return row[key] if isinstance(row[key], list) else [row[key]]


# how the values of some uses are read
_READ: dict[Use, Callable[[dict[str, Any], str], Sequence[Any]]] = {
    "captions": lambda row, key: exact_captions_of(row, [key]),
    "embeddings": take,
}

#: keys of a row that list media
MEDIA_KEYS = frozenset(_USES)


class RowMedia:
    """The media of one row.

    Args:
        row: the row. ``input_X`` lists media of the user, ``output_X`` media of the assistant, ``X`` and ``Xs`` media
            of both; ``X_captions`` and ``X_caption_embeddings`` belong to the assistant's. Each is a value or a list.
        place: where files are.
        of_parts: names that the parts of the row's messages give; members of a tar sample with these names are theirs.

    Raises:
        UserError: the numbers of files and captions differ.

    """

    def __init__(self, row: dict[str, Any], place: Place, of_parts: Collection[str] = ()) -> None:
        self._place = place
        self._lists: dict[tuple[Modality, Use], list[Any]] = {}
        for key, value in row.items():
            known = _USES.get(key)
            if known is not None and value not in (None, []):
                values = _READ.get(known[1], _as_list)(row, key)
                self.add(*known, *values)
        self._members: dict[str, Media] = {}
        self._placed: set[str] = set()  # names of members that a turn has
        if "__key__" in row:
            self._add_members(row, of_parts)
        self._described: dict[Modality, int] = {}
        given = set()
        for (modality, use), values in self._lists.items():
            captions = self._lists.get((modality, "captions"), ())
            if use == "made" and values and len(values) != len(captions):
                raise UserError(f"{len(values)} files in output_{modality}, but {len(captions)} captions")
            if use in ("shown", "either") and values:
                given.add(modality)
        # LLaVA-Video writes <image> where the row gives a video
        self._stands_for = {Modality.IMAGE: Modality.VIDEO} if given == {Modality.VIDEO} else {}

    def add(self, modality: Modality, use: Use, *values: Any) -> None:
        """Add media, captions or embeddings."""
        self._lists.setdefault((modality, use), []).extend(values)

    def _add_members(self, row: dict[str, Any], of_parts: Collection[str]) -> None:
        """Media members of a tar sample: for the names that the row lists, or all in order if it lists none."""
        named = {modality for modality, use in self._lists if use in ("shown", "made", "either")}
        for ending, media in sample_media(row, self._place.file).items():
            name = PurePosixPath(f"{row['__key__']}.{ending}").name
            if media.modality in named or name in of_parts:
                self._members[name] = media
            else:
                self.add(media.modality, "either", media)

    def turns(self, turns: Sequence[Turn]) -> list[Turn]:
        """The turns; a single medium without a placeholder gets its usual place.

        One that the user shows is put before the first question, one that the assistant makes after the last answer.
        """
        turns = list(turns)
        if not self._lists:
            return turns
        shown = [(m, use) for (m, use), values in self._lists.items() if use in ("shown", "either") for _ in values]
        made = [m for (m, use), values in self._lists.items() if use == "captions" for _ in values]
        if 1 not in (len(shown), len(made)):
            return turns
        placed = {(turn.role, modality) for turn in turns for modality in turn.modalities}
        roles = {role for role, _ in placed}
        if len(shown) == 1 and "user" not in roles:
            ((modality, use),) = shown
            # without a placeholder it cannot be told whether the assistant makes it
            if use == "shown" or (("assistant", modality) not in placed and modality not in made):
                _change(turns, "user", lambda turn: _with_medium_before(turn, modality), first=True)
        if len(made) == 1 and "assistant" not in roles and (made[0], "either") not in shown:
            _change(turns, "assistant", lambda turn: with_medium_behind(turn, made[0]), first=False)
        return turns

    def parts(self, turn: Turn) -> tuple[Part, ...]:
        """The parts of a turn's message.

        Raises:
            UserError: a placeholder has no medium, or a medium of the assistant no caption.

        """
        captions = list(turn.captions)
        parts: list[Part] = []
        for piece in turn.content:
            if isinstance(piece, Modality):
                parts.append(self._made(piece, captions) if turn.role == "assistant" else self._shown(piece))
            else:
                parts.append(TextPart(piece) if isinstance(piece, str) else piece)
        return tuple(parts)

    def _next(self, modality: Modality, *uses: Use) -> Any:
        for use in uses:
            values = self._lists.get((modality, use))
            if values:
                return values.pop(0)
        return None

    def _shown(self, modality: Modality) -> MediaPart:
        modality = self._stands_for.get(modality, modality)
        value = self._next(modality, "shown", "either")
        if value is None:
            raise UserError(f"a turn has {MODALITIES[modality].placeholder}, but the row gives no such medium")
        return MediaPart(modality, self.member(value) or self._place.media(modality, value))

    def _made(self, modality: Modality, of_turn: list[str]) -> MediaPart:
        caption = self._next(modality, "captions")
        if caption is None and of_turn:
            caption = of_turn.pop(0)
        value = self._next(modality, "made", "either")
        media = None if value is None else self.member(value) or self._place.optional_media(modality, value)
        index = self._described.get(modality, 0)
        self._described[modality] = index + 1
        embeddings = self._lists.get((modality, "embeddings"), ())
        return reply_medium(modality, media, caption, self._place, embeddings, index)

    def member(self, value: Any) -> Media | None:
        """The medium of the tar sample that a value names, if it names one."""
        if isinstance(value, Media):
            return value
        if not self._members or not isinstance(value, str):
            return None
        name = PurePosixPath(value).name
        self._placed.add(name)
        return self._members.get(name)

    def check_used(self) -> None:
        """Refuse media that no turn places.

        Raises:
            UserError: there are some.

        """
        unplaced = [name for name in self._members if name not in self._placed]
        if not unplaced and not any(self._lists.values()):
            return
        counts = Counter({key: len(values) for key, values in self._lists.items()})
        modalities = {modality for modality, _ in counts}
        inputs = sum(counts[m, "shown"] + counts[m, "either"] for m in modalities)
        outputs = sum(max(counts[m, "made"], counts[m, "captions"]) for m in modalities)
        if inputs or outputs:
            raise UserError(f"{inputs} input and {outputs} output media have no placeholder in a turn")
        if unplaced:
            raise UserError(f"no key names {', '.join(unplaced)} of the sample")


def _change(turns: list[Turn], role: Role, change: Callable[[Turn], Turn], *, first: bool) -> None:
    """Change the first or last turn of a role, if there is one."""
    numbers = [i for i, turn in enumerate(turns) if turn.role == role]
    if numbers:
        number = numbers[0 if first else -1]
        turns[number] = change(turns[number])


def _with_medium_before(turn: Turn, modality: Modality) -> Turn:
    text, *behind = turn.content or ("",)
    return turn._replace(content=(modality, f"\n{text}", *behind))


def with_medium_behind(turn: Turn, piece: Modality | MediaPart) -> Turn:
    """A turn with a medium at its end."""
    if not turn.content or is_medium(turn.content[-1]):
        return turn._replace(content=(*turn.content, piece))
    return turn._replace(content=(*turn.content[:-1], f"{turn.content[-1]} ", piece))


def reply_medium(
    modality: Modality,
    media: Media | None,
    caption: Any,
    place: Place,
    embeddings: Sequence[Any] = (),
    index: int = 0,
) -> MediaPart:
    """A medium that the assistant makes.

    Args:
        modality: of the medium.
        media: the medium, if it exists; only the denoising loss needs it.
        caption: what it shows.
        place: where files are.
        embeddings: names of caption embeddings; see :meth:`~nextgpt_pl.readers.place.Place.embedding`.
        index: which of them is of this medium.

    Raises:
        UserError: there is no caption.

    """
    if caption is None:
        raise UserError(
            f"the assistant's {modality} has no caption, which is what it learns to make: a list {modality}_captions"
            f" in the row gives one for each {modality} of the assistant, or 'caption' in its turn or part"
        )
    if not isinstance(caption, str):
        raise UserError(f"caption={caption!r:.80}: a text is expected")
    if not caption.strip():
        raise UserError("the caption is empty: there is nothing to learn")
    return MediaPart(modality, media, caption, place.embedding(embeddings, index))
