"""Media of messages by https URL, from hosts that the operator allows.

An allowed host may redirect, and its name may resolve to any address, each time to another one. So each hop is checked,
all addresses of its host must be public, and the connection is made to an address that was checked.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from nextgpt_pl import __version__
from nextgpt_pl.errors import UserError
from nextgpt_pl.readers.layouts.parts import part_of
from nextgpt_pl.serving.addresses import is_public
from nextgpt_pl.serving.errors import RequestError
from nextgpt_pl.serving.options import HTTPS, ServerOptions

_MAX_REDIRECTS = 5
_SECONDS = 10.0  # to connect, and between two chunks of data
# a kept connection was verified for one host, and another host may have the same address
_LIMITS = httpx.Limits(max_connections=4, max_keepalive_connections=0)
_HEADERS = {"User-Agent": f"nextgpt_pl/{__version__}", "Accept-Encoding": "identity"}


class Fetcher:
    """Fetches the media of messages.

    Args:
        options: the allowed hosts and the bounds.
        seconds: for all media of a request.

    """

    def __init__(self, options: ServerOptions, seconds: float = 30.0) -> None:
        self._options, self._seconds = options, seconds
        self._certificates = httpx.create_ssl_context() if options.allow_host else None

    async def fetched(self, messages: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """The messages with the files of media in the place of their URLs.

        Without allowed hosts they are returned as they are, and their reader refuses the URLs.

        Raises:
            RequestError: a medium cannot be fetched, is too large, or may not be fetched.

        """
        parts = [part for message in messages if not isinstance(message["content"], str) for part in message["content"]]
        urls = list(dict.fromkeys(named[1] for part in parts if (named := _url_of(part)) is not None))
        if self._certificates is None or not urls:
            return messages
        client = httpx.AsyncClient(
            verify=self._certificates, trust_env=False, headers=_HEADERS, timeout=_SECONDS, limits=_LIMITS
        )
        async with client:
            files = await self._files(client, urls)
        return [{**message, "content": _filled(message["content"], files)} for message in messages]

    async def _files(self, client: httpx.AsyncClient, urls: Sequence[str]) -> dict[str, bytes]:
        download = _Download(client, self._options)
        tasks = [asyncio.ensure_future(download.file(url)) for url in urls]
        try:
            files = await asyncio.wait_for(asyncio.gather(*tasks), self._seconds)
        except asyncio.TimeoutError:
            raise _refused(f"media by URL are not there within {self._seconds:g} seconds") from None
        finally:
            for task in tasks:
                task.cancel()
        return dict(zip(urls, files, strict=True))


class _Download:
    """The files of one request.

    Args:
        client: makes the connections.
        options: the allowed hosts and the bounds.

    """

    def __init__(self, client: httpx.AsyncClient, options: ServerOptions) -> None:
        self._client, self._origins = client, options.origins()
        self._max_medium, self._left = options.max_medium, options.max_body

    async def file(self, url: str) -> bytes:
        """The file at a URL, or where it redirects."""
        try:
            place = httpx.URL(url)
            for _ in range(_MAX_REDIRECTS + 1):
                found = await self._hop(place)
                if isinstance(found, bytes):
                    return found
                place = found
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise _refused(f"{url!r:.80}: not fetched ({error or type(error).__name__})") from error
        raise _refused(f"{url!r:.80}: more than {_MAX_REDIRECTS} redirects")

    async def _hop(self, url: httpx.URL) -> bytes | httpx.URL:
        """The file, or the next URL."""
        addresses = await self._checked_addresses(url)
        for address in addresses[:-1]:
            try:
                return await self._from(url, address)
            except httpx.ConnectError:
                continue
        return await self._from(url, addresses[-1])

    async def _checked_addresses(self, url: httpx.URL) -> list[str]:
        host, port = url.raw_host.decode("ascii"), url.port or HTTPS
        if url.scheme != "https" or url.userinfo or (host, port) not in self._origins:
            allowed = ", ".join(sorted(name if p == HTTPS else f"{name}:{p}" for name, p in self._origins))
            raise _refused(f"{str(url)!r:.80}: media are fetched by https, and from {allowed} only")
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if not all(map(is_public, addresses)):
            raise _refused(f"{host}: not an address on the public net")
        return addresses

    async def _from(self, url: httpx.URL, address: str) -> bytes | httpx.URL:
        """The file, or the next URL, from a host at its checked address."""
        request = self._client.build_request(
            "GET",
            url.copy_with(host=address),
            headers={"Host": url.netloc.decode("ascii")},
            extensions={"sni_hostname": url.raw_host.decode("ascii")},  # the certificate is that of the host
        )
        response = await self._client.send(request, stream=True)
        try:
            if response.has_redirect_location:
                return url.join(response.headers["Location"])
            if response.status_code != httpx.codes.OK:
                raise _refused(f"{str(url)!r:.80}: not fetched (status {response.status_code})")
            data = bytearray()
            async for chunk in response.aiter_raw():
                data += chunk
                self._left -= len(chunk)
                if len(data) > self._max_medium or self._left < 0:
                    raise _refused(f"{str(url)!r:.80}: the medium, or the media of the request, are too large")
            return bytes(data)
        finally:
            await response.aclose()


def _refused(message: str) -> RequestError:
    return RequestError(400, message, "messages", "media_not_fetched")


def _url_of(part: Mapping[str, Any]) -> tuple[str, str] | None:
    """The key of a part that names a URL, and the URL."""
    try:
        found = part_of(dict(part), None, frozenset({"rate"}))
    except UserError:  # it is refused, with its position, when it is read
        return None
    if isinstance(found, str) or found.key is None:
        return None
    url = found.value.get("url") if isinstance(found.value, Mapping) else found.value
    named = isinstance(url, str) and url.startswith(("http://", "https://"))
    return (found.key, str(url)) if named else None


def _filled(content: Any, files: Mapping[str, bytes]) -> Any:
    if isinstance(content, str):
        return content
    named = [(part, _url_of(part)) for part in content]
    return [part if n is None else {**part, n[0]: {"bytes": files[n[1]]}} for part, n in named]
