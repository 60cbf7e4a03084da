"""Requests to an LLM by OpenAI's chat completions protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nextgpt_pl.building.answers import CUT, FORMAT, REFUSED, schema
from nextgpt_pl.building.plans import Plan
from nextgpt_pl.errors import UserError

CHARACTERS_PER_TOKEN = 4  # of English, roughly; for estimates
_HIDDEN = "***"


@dataclass(frozen=True)
class Reply:
    """One reply of the LLM.

    Attributes:
        text: the text; empty if there is none.
        fault: why the reply is incomplete, one of the reasons in :mod:`nextgpt_pl.building.answers`; ``None`` if it is
            complete.
        tokens_in: tokens of the prompt.
        tokens_out: tokens of the reply.
        repeats: how often the request was repeated after status 408, 409, 429 or 5xx, a time-out or a lost connection.
        estimated: whether the endpoint gave no numbers of tokens, so that they are estimated from the texts.

    """

    text: str
    fault: str | None
    tokens_in: int
    tokens_out: int
    repeats: int = 0
    estimated: bool = False


@dataclass(frozen=True)
class Request:
    """One request.

    Attributes:
        messages: chat messages; their content is a text or a list of parts.
        name: name of the reply's format.
        schema: JSON schema of the reply, for structured outputs.

    """

    messages: Sequence[Mapping[str, Any]]
    name: str
    schema: Mapping[str, Any]

    @property
    def tokens(self) -> int:
        """An estimate of the number of tokens of its texts."""
        contents = [message["content"] for message in self.messages]
        parts = [part for content in contents for part in ([content] if isinstance(content, str) else content)]
        texts = [part if isinstance(part, str) else part.get("text", "") for part in parts]
        return sum(map(len, texts)) // CHARACTERS_PER_TOKEN + 1


class Connection:
    """A connection to an endpoint; several threads may use it.

    Args:
        client: client of the package ``openai``.
        name: name of the endpoint in messages.
        arguments: arguments of all requests, such as the model.
        structured: request structured outputs until the endpoint refuses them.
        key: API key, which is removed from error messages.

    """

    def __init__(self, client: Any, name: str, arguments: Mapping[str, Any], structured: bool, key: str | None) -> None:
        self._client, self._name, self._given, self._key = client, name, dict(arguments), key
        self._structured = structured

    def ask(self, plan: Plan, seed: int) -> Reply:
        """Request one dialogue; see :meth:`send` for errors."""
        return self.send(_dialogue(plan), seed)

    def send(self, request: Request, seed: int) -> Reply:
        """Send one request.

        Raises:
            UserError: the endpoint refuses the request, or still fails after all repetitions.

        """
        import openai

        try:
            return self._reply(request, seed)
        except openai.APIStatusError as error:
            raise UserError(
                f"endpoint {self._name}: status {error.status_code}: {self._hidden(error.message)}"
            ) from None  # the cause holds the request's headers
        except openai.OpenAIError as error:
            raise UserError(f"endpoint {self._name}: {self._hidden(str(error))}") from None

    def _reply(self, request: Request, seed: int) -> Reply:
        import openai

        structured = self._structured
        try:
            raw = self._client.chat.completions.with_raw_response.create(**self._arguments(request, seed, structured))
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            if not structured or not any(name in str(error) for name in ("response_format", "json_schema")):
                raise
            self._structured = False
            return self._reply(request, seed)
        return self._read(raw, request)

    def _arguments(self, request: Request, seed: int, structured: bool) -> dict[str, Any]:
        arguments = {**self._given, "messages": list(request.messages), "seed": seed}
        if structured:
            format_schema = {"name": request.name, "strict": True, "schema": dict(request.schema)}
            arguments["response_format"] = {"type": "json_schema", "json_schema": format_schema}
        return arguments

    def _read(self, raw: Any, request: Request) -> Reply:
        try:
            answer = raw.parse()
            choice = answer.choices[0]
            text, refusal, end = choice.message.content or "", choice.message.refusal, choice.finish_reason
            if not isinstance(text, str):
                raise TypeError(f"the content is {text!r:.80}")
            tokens_in, tokens_out, estimated = _tokens(answer.usage, request, text)
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            raise UserError(f"endpoint {self._name}: no chat completion in the response ({error})") from error
        fault = REFUSED if refusal or end == "content_filter" else CUT if end == "length" else None
        return Reply(text, fault, tokens_in, tokens_out, raw.retries_taken, estimated)

    def _hidden(self, message: str) -> str:
        return (message.replace(self._key, _HIDDEN) if self._key else message)[:500]


def chat_messages(plan: Plan) -> list[dict[str, str]]:
    """System message and request of a plan; the former ends with the description of the JSON."""
    return [
        {"role": "system", "content": f"{plan.system}\n\n{FORMAT}".strip()},
        {"role": "user", "content": plan.user},
    ]


def prompt_tokens(plan: Plan) -> int:
    """An estimate of the number of prompt tokens."""
    return _dialogue(plan).tokens


def _dialogue(plan: Plan) -> Request:
    return Request(chat_messages(plan), "dialogue", schema())


def _tokens(usage: Any, request: Request, text: str) -> tuple[int, int, bool]:
    """Tokens of the prompt and of the reply, and whether they are estimated since the endpoint does not give them."""
    tokens_in, tokens_out = (getattr(usage, f"{name}_tokens", None) for name in ("prompt", "completion"))
    if tokens_in is None or tokens_out is None:
        return request.tokens, len(text) // CHARACTERS_PER_TOKEN + 1, True
    return int(tokens_in), int(tokens_out), False
