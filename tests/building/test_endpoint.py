"""The protocol: what is sent, what is understood, and what never leaves the process."""

import sys

import pytest
from building_parts import Faulty, endpoint, prompts

from nextgpt_pl.building import Endpoint
from nextgpt_pl.building.pocket_server import Response, completion, respond, serving
from nextgpt_pl.errors import UserError

PLAN = prompts().plan(0)


def ask(url, **options):
    with endpoint(url, **options).connected() as connection:
        return connection.ask(PLAN, 7)


def test_a_request_has_the_schema_and_the_settings():
    with serving(server := Faulty()) as url:
        reply = ask(url, max_tokens=99, temperature=0.5)
        ask(url, temperature=None, structured=False, max_tokens_name="max_completion_tokens")
    first, second = server.requests
    assert (first["model"], first["seed"], first["max_tokens"], first["temperature"]) == ("pocket", 7, 99, 0.5)
    assert first["response_format"]["json_schema"]["strict"] is True
    assert first["messages"][0]["content"].startswith(PLAN.system)
    assert "Reply with one JSON object" in first["messages"][0]["content"]
    assert not {"temperature", "response_format", "max_tokens"} & set(second)
    assert (reply.fault, reply.repeats, reply.estimated) == (None, 0, False)
    assert min(reply.tokens_in, reply.tokens_out) > 0


def test_an_endpoint_without_structured_outputs_is_asked_without_them():
    requests = []

    def without(request):
        requests.append("response_format" in request)
        if requests[-1]:
            return Response(400, {"error": {"message": "response_format: json_schema is not supported"}})
        return respond(request)

    with serving(without) as url, endpoint(url).connected() as connection:
        assert connection.ask(PLAN, 0).fault is None
        assert connection.ask(PLAN, 0).fault is None
    assert requests == [True, False, False]


def test_the_key_is_sent_and_never_shown(monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret-123")

    def refuse(request):
        return Response(403, {"error": {"message": "the key secret-123 is not allowed"}})

    with serving(refuse) as url, pytest.raises(UserError) as error:
        ask(url, key_variable="MY_KEY")
    assert "status 403" in str(error.value)
    assert "the key *** is not allowed" in str(error.value)
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__


@pytest.mark.parametrize("value", [None, " "])
def test_a_missing_key_is_named(value, monkeypatch):
    monkeypatch.delenv("MY_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("MY_KEY", value)
    with pytest.raises(UserError, match=r"endpoint\.key_variable=MY_KEY: the environment variable is empty"):
        ask("http://localhost:1/v1", key_variable="MY_KEY")


def test_a_missing_package_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(UserError, match=r"pip install 'nextgpt-pl\[build\]'"):
        ask("http://localhost:1/v1")


def test_an_endpoint_that_is_not_there_is_named():
    with pytest.raises(UserError, match=r"endpoint http://127\.0\.0\.1:9/v1: Connection error"):
        ask("http://127.0.0.1:9/v1", repeats=0)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"choices": []},
        {"choices": [{"finish_reason": "stop"}]},
        [1],
        {**completion("x", "y"), "choices": [{"message": {"content": [{"type": "text"}]}}]},
        {**completion("x", "y"), "usage": {"prompt_tokens": "many", "completion_tokens": 1}},
    ],
)
def test_a_response_that_is_no_completion_is_named(body):
    with serving(lambda request: Response(200, body)) as url, pytest.raises(UserError, match="no chat completion"):
        ask(url)


def test_a_filtered_reply_is_refused_and_an_empty_one_is_empty():
    with serving(lambda request: Response(200, completion("", "x", "content_filter"))) as url:
        assert ask(url).fault == "refused by the model"
    with serving(lambda request: Response(200, completion("", "x"))) as url:
        assert (ask(url).fault, ask(url).text) == (None, "")


def test_the_pocket_server_names_what_a_prompt_lacks():
    with endpoint("pocket:").connected() as connection:
        assert connection.ask(PLAN, 0).fault is None
    with (
        serving() as url,
        endpoint(url).connected() as connection,
        pytest.raises(UserError, match="no lines 'Dialogue"),
    ):
        connection.ask(type(PLAN)(0, "x", (), 1, "", "Write about cats."), 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_url": "api.openai.com"}, "an address such as"),
        ({"base_url": "file:///etc/passwd"}, "an address such as"),
        ({"base_url": "http://[::1"}, "an address such as"),
        ({"base_url": "http://secret:99999/v1"}, "an address such as"),
        ({"base_url": "https://me:secret@host/v1"}, "would be stored"),
        ({"base_url": "https://host/v1?key=secret"}, "would be stored"),
        ({"concurrency": 0}, r"endpoint\.concurrency=0"),
        ({"max_tokens": 0}, r"endpoint\.max_tokens=0"),
        ({"timeout": float("inf")}, r"endpoint\.timeout=inf"),
        ({"temperature": -1.0}, r"endpoint\.temperature=-1"),
        ({"input_price": -1.0}, r"endpoint\.input_price=-1"),
    ],
)
def test_invalid_settings_are_named_and_secrets_are_not_shown(options, message):
    with pytest.raises(UserError, match=message) as error:
        Endpoint(**{"base_url": "pocket:", "model": "m", **options})
    assert "secret" not in str(error.value)
