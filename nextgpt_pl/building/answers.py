"""The dialogue in an LLM's reply: its JSON schema, and the checks that a reply must pass."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, WithJsonSchema

from nextgpt_pl.building.plans import Bounds, Plan
from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import GENERATED, MODALITIES, Modality
from nextgpt_pl.samples import MediaPart, Message, Part, TextPart

NOT_JSON = "invalid JSON"
NOT_SCHEMA = "JSON of another schema"
ROLES = "roles that do not alternate"
EXCHANGES = "number of exchanges out of bounds"
KINDS = "other media than requested"
TEXT = "unusable text"
CUT = "cut off at max_tokens"
REFUSED = "refused by the model"

_LONGEST = 20_000  # characters of one text; no tokenizer keeps as many within a context
_PLACEHOLDERS = re.compile("|".join(re.escape(spec.placeholder) for spec in MODALITIES.values()))

#: appended to the system message, for endpoints without structured outputs
FORMAT = """Reply with one JSON object and nothing else:
{"messages": [{"role": "user", "content": [PART, ...]}, {"role": "assistant", "content": [PART, ...]}, ...]}
The roles alternate; the first message is the user's, the last the assistant's.
A PART is {"type": "text", "text": "..."}, or a medium at its place in the message: {"type": "image", "caption": "..."}.
The type of a medium is image, video or audio. Its caption describes its content completely, without the dialogue."""


class Rejected(Exception):  # noqa: N818 (an outcome that is counted, not an error)
    """A reply that is no usable dialogue.

    Args:
        reason: one of this module's reasons, under which it is counted.
        detail: what is wrong.

    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TextContent(_Strict):
    """A text."""

    type: Literal["text"]
    text: str


class MediumContent(_Strict):
    """A medium, as a description of its content."""

    type: Annotated[Modality, WithJsonSchema({"type": "string", "enum": [m.value for m in GENERATED]})]
    caption: str


class AnswerMessage(_Strict):
    """One turn."""

    role: Literal["user", "assistant"]
    content: list[TextContent | MediumContent]


class Answer(_Strict):
    """A whole dialogue."""

    messages: list[AnswerMessage]


def schema() -> dict[str, Any]:
    """The JSON schema of an answer, as structured outputs take it: all keys required, no others allowed."""
    return Answer.model_json_schema()


def parse(text: str, plan: Plan, bounds: Bounds) -> tuple[Message, ...]:
    """The dialogue of a reply; media have a caption only.

    Args:
        text: the reply; text around the JSON object is ignored, such as a Markdown fence.
        plan: what was requested.
        bounds: numbers of exchanges and media.

    Raises:
        Rejected: the reply is not JSON of the schema, or the dialogue is not what was requested.

    """
    answer = _validated(_object(text))
    _check_roles(answer.messages, bounds)
    messages = tuple(Message(m.role, tuple(map(_part, m.content))) for m in answer.messages)
    _check_media(messages, plan, bounds)
    return messages


def encoded(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as JSON values, in the form of an answer's ``messages``."""

    def part(part: Part) -> dict[str, Any]:
        if isinstance(part, TextPart):
            return {"type": "text", "text": part.text}
        return {"type": part.modality.value, "caption": part.caption}

    return [{"role": m.role, "content": [part(p) for p in m.parts]} for m in messages]


def decoded(messages: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    """The inverse of :func:`encoded`.

    Raises:
        UserError: the values are no messages.

    """
    try:
        found = TypeAdapter(list[AnswerMessage]).validate_python(messages)
    except ValidationError as error:
        raise UserError(f"no messages of a dialogue ({error.errors()[0]['msg']}): {messages!r:.80}") from error
    return tuple(Message(m.role, tuple(map(_part, m.content))) for m in found)


def _object(text: str) -> str:
    start, end = text.find("{"), text.rfind("}")
    if not 0 <= start < end:
        raise Rejected(NOT_JSON, f"no JSON object in {text!r:.80}")
    return text[start : end + 1]


def _validated(text: str) -> Answer:
    try:
        text.encode()  # a lone surrogate outside of a string
        return Answer.model_validate_json(text)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False, include_input=False)
        # a part is a text or a medium: errors of the alternative that has another type say nothing
        other = {e["loc"][:-1] for e in errors if e["loc"][-1:] == ("type",)}
        first = next((e for e in errors if e["loc"][:-1] not in other), errors[0])
        place = ".".join(map(str, first["loc"]))
        raise Rejected(NOT_JSON if first["type"] == "json_invalid" else NOT_SCHEMA, f"{place} {first['msg']}") from None
    except UnicodeEncodeError as error:
        raise Rejected(NOT_JSON, str(error)[:200]) from None


def _check_roles(messages: Sequence[AnswerMessage], bounds: Bounds) -> None:
    roles = [message.role for message in messages]
    if roles != ["user", "assistant"] * (len(roles) // 2) or not roles:
        raise Rejected(ROLES, " ".join(roles) or "no message")
    low, high = bounds.exchanges
    if not low <= len(roles) // 2 <= high:
        raise Rejected(EXCHANGES, f"{len(roles) // 2}, expected {low} to {high}")
    for number, message in enumerate(messages):
        if not message.content:
            raise Rejected(NOT_SCHEMA, f"messages.{number}.content is empty")


def _part(part: TextContent | MediumContent) -> Part:
    text = part.text if isinstance(part, TextContent) else part.caption
    if not text.strip() or len(text) > _LONGEST:
        raise Rejected(TEXT, f"{part.type} of {len(text)} characters, expected 1 to {_LONGEST}")
    if placeholder := _PLACEHOLDERS.search(text):
        raise Rejected(TEXT, f"{placeholder.group()} in {text!r:.80}")
    return TextPart(text.strip()) if isinstance(part, TextContent) else MediaPart(part.type, caption=text.strip())


def _check_media(messages: Sequence[Message], plan: Plan, bounds: Bounds) -> None:
    kinds = [part.modality for message in messages for part in message.parts if isinstance(part, MediaPart)]
    if set(kinds) != set(plan.kinds):
        found, wanted = (", ".join(sorted(set(names))) or "none" for names in (kinds, plan.kinds))
        raise Rejected(KINDS, f"{found}; expected {wanted}")
    if len(kinds) > bounds.most_media:
        raise Rejected(KINDS, f"{len(kinds)} media, at most {bounds.most_media}")
