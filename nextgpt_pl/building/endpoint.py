"""An LLM behind an endpoint that speaks OpenAI's chat completions protocol."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from nextgpt_pl.building.answers import CUT, FORMAT, REFUSED, schema
from nextgpt_pl.building.plans import Plan
from nextgpt_pl.errors import UserError, at_least

#: ``base_url`` of the server that writes dialogues of the pocket world, started for the time of the command
POCKET = "pocket:"
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


class Endpoint:
    """Address and settings of the LLM.

    Args:
        base_url: address, such as ``https://api.openai.com/v1`` or ``http://localhost:8000/v1``; ``pocket:`` is a
            server of pocket-world dialogues within this process.
        model: name of the model.
        key_variable: environment variable with the API key; ``null`` for servers without keys.
        temperature: sampling temperature; ``null`` leaves it to the endpoint.
        max_tokens: highest number of tokens of a reply.
        max_tokens_name: the argument's name; OpenAI's reasoning models know ``max_completion_tokens`` only.
        input_price: price of a million prompt tokens.
        output_price: price of a million tokens of replies.
        structured: request structured outputs by a JSON schema. If the endpoint refuses the argument, it is left out.
        concurrency: highest number of parallel requests.
        timeout: seconds until a request counts as failed.
        repeats: highest number of repetitions of a failed request, at growing intervals.

    Raises:
        UserError: an argument is invalid.

    """

    def __init__(
        self,
        base_url: str,
        model: str,
        key_variable: str | None = "OPENAI_API_KEY",
        temperature: float | None = 1.0,
        max_tokens: int = 3000,
        max_tokens_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens",
        input_price: float = 0.0,
        output_price: float = 0.0,
        structured: bool = True,
        concurrency: int = 8,
        timeout: float = 120.0,
        repeats: int = 8,
    ) -> None:
        at_least(0, endpoint__temperature=temperature, endpoint__repeats=repeats)
        at_least(0, endpoint__input_price=input_price, endpoint__output_price=output_price)
        at_least(1, endpoint__max_tokens=max_tokens, endpoint__concurrency=concurrency, endpoint__timeout=timeout)
        _check_address(base_url)
        self.base_url, self.model, self.key_variable = base_url, model, key_variable
        self.temperature, self.max_tokens, self.max_tokens_name = temperature, max_tokens, max_tokens_name
        self.input_price, self.output_price = input_price, output_price
        self.structured, self.concurrency, self.timeout, self.repeats = structured, concurrency, timeout, repeats

    def cost(self, tokens_in: int, tokens_out: int) -> float:
        """Price of numbers of tokens."""
        return (tokens_in * self.input_price + tokens_out * self.output_price) / 1e6

    @contextmanager
    def connected(self) -> Iterator[Connection]:
        """Yield a connection, which is closed afterwards.

        Raises:
            UserError: the package ``openai`` is not installed, or the environment has no key.

        """
        try:
            import openai
        except ImportError as error:
            raise UserError(f"data build: pip install -e '.[build]' ({error})") from error
        key = self._key()
        with (
            _address(self.base_url) as address,
            openai.OpenAI(
                api_key=key or "none", base_url=address, timeout=self.timeout, max_retries=self.repeats
            ) as client,
        ):
            yield Connection(self, client, key)

    def _key(self) -> str | None:
        if self.key_variable is None:
            return None
        key = os.environ.get(self.key_variable, "").strip()
        if not key:
            raise UserError(
                f"endpoint.key_variable={self.key_variable}: the environment variable is empty; "
                "put the API key there, or set null for a server without keys"
            )
        return key


class Connection:
    """A connection to an endpoint; several threads may use it.

    Args:
        endpoint: the settings.
        client: client of the package ``openai``.
        key: API key, which is removed from error messages.

    """

    def __init__(self, endpoint: Endpoint, client: Any, key: str | None) -> None:
        self.endpoint, self._client, self._key = endpoint, client, key
        self._structured = endpoint.structured

    def ask(self, plan: Plan, seed: int) -> Reply:
        """Request one dialogue.

        Raises:
            UserError: the endpoint refuses the request, or still fails after all repetitions.

        """
        import openai

        try:
            return self._reply(plan, seed)
        except openai.APIStatusError as error:
            raise UserError(
                f"endpoint {self.endpoint.base_url}: status {error.status_code}: {self._hidden(error.message)}"
            ) from None  # the cause holds the request's headers
        except openai.OpenAIError as error:
            raise UserError(f"endpoint {self.endpoint.base_url}: {self._hidden(str(error))}") from None

    def _reply(self, plan: Plan, seed: int) -> Reply:
        import openai

        structured = self._structured
        try:
            raw = self._client.chat.completions.with_raw_response.create(**self._arguments(plan, seed, structured))
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            if not structured or not any(name in str(error) for name in ("response_format", "json_schema")):
                raise
            self._structured = False
            return self._reply(plan, seed)
        return self._read(raw, plan)

    def _arguments(self, plan: Plan, seed: int, structured: bool) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "model": self.endpoint.model,
            "messages": chat_messages(plan),
            "seed": seed,
            self.endpoint.max_tokens_name: self.endpoint.max_tokens,
        }
        if self.endpoint.temperature is not None:
            arguments["temperature"] = self.endpoint.temperature
        if structured:
            format_schema = {"name": "dialogue", "strict": True, "schema": schema()}
            arguments["response_format"] = {"type": "json_schema", "json_schema": format_schema}
        return arguments

    def _read(self, raw: Any, plan: Plan) -> Reply:
        try:
            answer = raw.parse()
            choice = answer.choices[0]
            text, refusal, end = choice.message.content or "", choice.message.refusal, choice.finish_reason
            if not isinstance(text, str):
                raise TypeError(f"the content is {text!r:.80}")
            tokens_in, tokens_out, estimated = _tokens(answer.usage, plan, text)
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            raise UserError(
                f"endpoint {self.endpoint.base_url}: no chat completion in the response ({error})"
            ) from error
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
    return sum(len(message["content"]) for message in chat_messages(plan)) // CHARACTERS_PER_TOKEN + 1


def _tokens(usage: Any, plan: Plan, text: str) -> tuple[int, int, bool]:
    """Tokens of the prompt and of the reply, and whether they are estimated since the endpoint does not give them."""
    tokens_in, tokens_out = (getattr(usage, f"{name}_tokens", None) for name in ("prompt", "completion"))
    if tokens_in is None or tokens_out is None:
        return prompt_tokens(plan), len(text) // CHARACTERS_PER_TOKEN + 1, True
    return int(tokens_in), int(tokens_out), False


def _check_address(url: str) -> None:
    if url == POCKET:
        return
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"endpoint.base_url={url!r:.80}: an address such as http://localhost:8000/v1 is expected")
    if parts.username or parts.password or parts.query:
        raise UserError(
            "endpoint.base_url: a user, a password or a query in it would be stored; "
            "give the key by the environment variable that endpoint.key_variable names"
        )


def _address(url: str) -> Any:
    """A context that yields the address, with the pocket world's server if it is asked for."""
    if url != POCKET:
        return nullcontext(url)
    from nextgpt_pl.building.pocket_server import serving

    return serving()
