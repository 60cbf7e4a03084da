"""Address and settings of an LLM behind OpenAI's chat completions protocol."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Literal
from urllib.parse import urlsplit

from nextgpt_pl.building.connection import Connection
from nextgpt_pl.errors import UserError, at_least

#: ``base_url`` of the server that writes dialogues of the pocket world, started for the time of the command
POCKET = "pocket:"


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
            raise UserError(f"the client of endpoints is missing: pip install 'nextgpt-pl[build]' ({error})") from error
        key = self._key()
        with (
            _address(self.base_url) as address,
            openai.OpenAI(
                api_key=key or "none", base_url=address, timeout=self.timeout, max_retries=self.repeats
            ) as client,
        ):
            arguments: dict[str, Any] = {"model": self.model, self.max_tokens_name: self.max_tokens}
            if self.temperature is not None:
                arguments["temperature"] = self.temperature
            yield Connection(client, self.base_url, arguments, self.structured, key)

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


def _check_address(url: str) -> None:
    if url == POCKET:
        return
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets or a port that are none
        known = False
    if not known:
        raise UserError("endpoint.base_url: an address such as http://localhost:8000/v1 is expected")
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
