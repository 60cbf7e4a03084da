"""Media by URL: from allowed hosts alone, each hop and address checked, bounded in size and time."""

import asyncio
import io
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
import trustme
from PIL import Image
from served import ToldModel, served, until

from nextgpt_pl.media.reading import array_of
from nextgpt_pl.readers.chat import dialogue_of
from nextgpt_pl.serving import fetching
from nextgpt_pl.serving.addresses import is_public
from nextgpt_pl.serving.errors import RequestError
from nextgpt_pl.serving.fetching import Fetcher
from nextgpt_pl.serving.options import ServerOptions

HOST = "media.example"


def _png():
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "PNG")
    return file.getvalue()


PICTURE = _png()


class _Site(BaseHTTPRequestHandler):
    """``/image`` is an image, ``/to?URL`` redirects, ``/large`` never ends, ``/slow`` sends a byte now and then."""

    def do_GET(self):
        self.server.seen.append((self.headers["Host"], self.path))
        path, _, query = self.path.partition("?")
        self.send_response({"/to": 302, "/none": 404}.get(path, 200))
        if path == "/to":
            self.send_header("Location", query)
        if path == "/slow":
            self._slowly()
            return
        self.end_headers()
        try:
            if path == "/large":
                while True:
                    self.wfile.write(bytes(65536))
            self.wfile.write(PICTURE)
        except OSError:  # the client has seen enough
            pass

    def _slowly(self):
        """A header that never ends."""
        self.flush_headers()
        while not self.server.closing.wait(0.02):
            try:
                self.wfile.write(b"x")
            except OSError:
                return

    def log_message(self, *_):
        pass


@contextmanager
def _serving(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Site) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.seen, server.closing = [], threading.Event()
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def server(authority):
    with _serving(authority.issue_cert(HOST, "other.example")) as server:
        yield server


@pytest.fixture
def resolved(authority, monkeypatch, tmp_path):
    """Addresses of the names of the tests, and the names that were resolved; the tests' site passes as public."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    addresses, asked, usual = {HOST: ["127.0.0.1"], "other.example": ["127.0.0.1"]}, [], socket.getaddrinfo

    def resolve(host, port, *arguments, **named):
        if host not in addresses:
            return usual(host, port, *arguments, **named)
        asked.append(host)
        return [entry for address in addresses[host] for entry in usual(address, port, *arguments, **named)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(fetching, "is_public", lambda address: address in ("127.0.0.1", "127.0.0.2"))
    return addresses, asked


def _fetched(*urls, port, allow=(HOST,), seconds=20.0, **options):
    """The files of URLs, or the message of the refusal."""
    parts = [{"type": "image_url", "image_url": {"url": url.replace("PORT", str(port))}} for url in urls]
    hosts = [f"{host}:{port}" for host in allow]
    fetcher = Fetcher(ServerOptions(allow_host=hosts, **options), seconds)
    try:
        (message,) = asyncio.run(fetcher.fetched([{"role": "user", "content": parts}]))
    except RequestError as error:
        refused = error
    else:
        return [part["image_url"]["bytes"] for part in message["content"]]
    assert (refused.status_code, refused.body["error"]["code"]) == (400, "media_not_fetched")
    return refused.body["error"]["message"]


def test_media_are_fetched_from_allowed_hosts(server, resolved):
    port = server.server_port
    server.seen.clear()
    redirected = f"https://{HOST}:PORT/to?https://{HOST}:{port}/image"
    files = _fetched(f"https://{HOST}:PORT/image", redirected, f"https://{HOST}:PORT/to?/image", port=port)
    assert files == [PICTURE] * 3
    assert {host for host, _ in server.seen} == {f"{HOST}:{port}"}
    assert len(resolved[1]) == len(server.seen) == 5


def test_only_parts_that_are_media_are_fetched_and_each_url_once(server, resolved):
    port, url = server.server_port, f"https://{HOST}:{server.server_port}/image"
    content = [
        {"type": "text", "text": url},
        {"type": "image", "url": url, "caption": url},
        {"type": "image", "image": {"url": url}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "unknown", "unknown": url},
    ]
    messages = [{"role": "user", "content": url}, {"role": "user", "content": content}]
    server.seen.clear()
    first, second = asyncio.run(Fetcher(ServerOptions(allow_host=[f"{HOST}:{port}"])).fetched(messages))
    assert len(server.seen) == 1
    assert first == messages[0]
    file = {"bytes": PICTURE}
    assert second["content"][0] == content[0]
    assert second["content"][1:3] == [{**content[1], "url": file}, {**content[2], "image": file}]
    assert second["content"][3:] == content[3:]
    read = dialogue_of([{"role": "user", "content": second["content"][:3]}])
    assert [array_of(part.media)[0].shape for part in read.messages[0].parts[1:]] == [(8, 8, 3)] * 2


def test_without_allowed_hosts_nothing_is_resolved(resolved):
    messages = [{"role": "user", "content": [{"type": "image", "url": f"https://{HOST}/image"}]}]
    assert asyncio.run(Fetcher(ServerOptions()).fetched(messages)) is messages
    assert not resolved[1]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://media.example:PORT/image", "media are fetched by https, and from media.example:PORT only"),
        ("https://other.example:PORT/image", "from media.example:PORT only"),
        ("https://media.example/image", "from media.example:PORT only"),
        ("https://media.example:PORT@other.example/image", "from media.example:PORT only"),
        ("https://user:word@media.example:PORT/image", "from media.example:PORT only"),
        ("https://media.example.:PORT/image", "from media.example:PORT only"),
        ("https://127.0.0.1:PORT/image", "from media.example:PORT only"),
        ("https://media.example:PORT/to?https://other.example:PORT/image", "'https://other.example:PORT/image': media"),
        ("https://media.example:PORT/to?http://media.example:PORT/image", "'http://media.example:PORT/image': media"),
        ("https://media.example:PORT/to?file:///etc/hostname", "'file:/etc/hostname': media are fetched by https"),
        ("https://media.example:PORT/to?/to?/to?/to?/to?/to?/to?/image", "more than 5 redirects"),
        ("https://media.example:PORT/none", "not fetched (status 404)"),
        ("https://media.example:x/image", "not fetched (Invalid port"),
    ],
)
def test_other_places_are_refused(server, resolved, url, message):
    port = str(server.server_port)
    server.seen.clear()
    assert message.replace("PORT", port) in _fetched(url, port=port)
    assert all("/image" not in path.partition("?")[0] for _, path in server.seen)


PUBLIC = ["1.1.1.1", "93.184.215.14", "2606:4700::1111", "64:ff9b::101:101"]
PRIVATE = [
    *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1"),
    *("239.1.1.1", "255.255.255.255", "240.0.0.1", "192.0.2.1", "198.18.0.1", "::1", "::", "fe80::1", "fe80::1%eth0"),
    *("fd00::1", "fec0::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "64:ff9b::7f00:1"),
    *("2002:7f00:1::", "2002:a00:1::1", "2001:0:a00:1::1", "2001:db8::1"),
]


@pytest.mark.parametrize("address", [*PUBLIC, *PRIVATE])
def test_public_addresses(address):
    assert is_public(address) == (address in PUBLIC)


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["1.1.1.1", "127.0.0.1"], ["::1"], ["169.254.169.254"]])
def test_a_host_with_an_address_that_is_not_public_is_refused(server, resolved, monkeypatch, addresses):
    monkeypatch.setattr(fetching, "is_public", is_public)
    resolved[0][HOST] = addresses
    server.seen.clear()
    assert "media.example: not an address on the public net" in _fetched(
        f"https://{HOST}:PORT/image", port=server.server_port
    )
    assert not server.seen


def test_the_connection_is_made_to_the_checked_address(server, resolved, monkeypatch):
    """A name server that answers differently the second time does not help."""
    checked = []
    monkeypatch.setattr(fetching, "is_public", lambda address: checked.append(address) or True)
    usual = socket.getaddrinfo

    def rebinding(host, *arguments, **named):
        answer = usual(host, *arguments, **named)
        resolved[0][HOST] = ["127.0.0.3"]  # nothing listens there
        return answer

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    assert _fetched(f"https://{HOST}:PORT/image", port=server.server_port) == [PICTURE]
    assert checked == ["127.0.0.1"]
    assert resolved[1] == [HOST]


def test_the_next_address_is_used_if_one_does_not_answer(server, resolved):
    resolved[0][HOST] = ["127.0.0.2", "127.0.0.1"]
    assert _fetched(f"https://{HOST}:PORT/image", port=server.server_port) == [PICTURE]


def test_the_certificate_must_be_of_the_host(authority, resolved):
    with _serving(authority.issue_cert("127.0.0.1", "other.example")) as server:
        assert "Hostname mismatch" in _fetched(f"https://{HOST}:PORT/image", port=server.server_port)
    with _serving(trustme.CA().issue_cert(HOST)) as server:
        assert "CERTIFICATE_VERIFY_FAILED" in _fetched(f"https://{HOST}:PORT/image", port=server.server_port)


def test_size_and_time_are_bounded(server, resolved):
    port, site = server.server_port, f"https://{HOST}:PORT"
    assert "too large" in _fetched(f"{site}/large", port=port, max_media_mb=0.5)
    assert "too large" in _fetched(f"{site}/large", port=port, max_body_mb=0.5)
    kilobytes = len(PICTURE) / 1000
    urls = [f"{site}/image?{i}" for i in range(4)]
    assert "too large" in _fetched(*urls, port=port, max_body_mb=3.5 * kilobytes / 1000)
    assert len(_fetched(*urls, port=port, max_body_mb=4.5 * kilobytes / 1000)) == 4
    began = time.monotonic()
    message = _fetched(f"{site}/slow", f"{site}/image", port=port, seconds=0.5)
    assert message == "media by URL are not there within 0.5 seconds"
    assert time.monotonic() - began < 10


def _ask(address, url, **options):
    content = [{"type": "image_url", "image_url": {"url": url}}]
    body = {"messages": [{"role": "user", "content": content}]}
    return httpx.post(f"{address}/chat/completions", json=body, **{"timeout": 20, **options})


def test_a_slow_host_keeps_no_other_request_waiting(server, resolved):
    model, site = ToldModel(), f"https://{HOST}:{server.server_port}"
    model.go.set()
    options = ServerOptions(readers=1, allow_host=[f"{HOST}:{server.server_port}"])
    # uvloop resolves names without the socket module, which is replaced here
    with served(model, options, loop="asyncio") as address, ThreadPoolExecutor(4) as pool:
        slow = [pool.submit(_ask, address, f"{site}/slow", timeout=httpx.Timeout(20, read=2)) for _ in range(3)]
        until(lambda: [path for _, path in server.seen].count("/slow") >= 3)
        assert _ask(address, f"{site}/image").status_code == 200
        assert not any(one.done() for one in slow)
        for one in slow:
            with pytest.raises(httpx.ReadTimeout):
                one.result()
        until(lambda: "nextgpt_requests_in_work 0.0" in httpx.get(address.replace("/v1", "/metrics")).text)
    assert [repr(PICTURE) in key for keys, _ in model.asked for key in keys] == [True]
