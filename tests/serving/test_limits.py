"""Batches, queue, time-out, token, clients that leave, and the server's end; the model replies when it is told to."""

import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest
from served import NAME, TEXT, ToldModel, served, until

from nextgpt_pl.serving.options import ServerOptions


@pytest.fixture
def model():
    return ToldModel()


def _client(address, key="none"):
    return openai.OpenAI(base_url=address, api_key=key, max_retries=0)


def _ask(client, text="Hi", **options):
    return client.chat.completions.create(model=NAME, messages=[{"role": "user", "content": text}], **options)


def _metric(address, name):
    lines = httpx.get(f"{address.removesuffix('/v1')}/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])


def test_waiting_requests_of_equal_options_are_answered_together(model):
    with (
        served(model, ServerOptions(batch_size=4)) as address,
        _client(address) as client,
        ThreadPoolExecutor(8) as pool,
    ):
        first = pool.submit(_ask, client)
        until(lambda: model.batches)
        rest = [pool.submit(_ask, client, f"{i}", max_tokens=5 if i == 3 else 9, seed=i) for i in range(6)]
        until(lambda: _metric(address, "nextgpt_requests_in_work") == 7)
        model.go.set()
        for answer in [first, *rest]:
            assert answer.result().choices[0].message.content[0]["text"] == "".join(TEXT)
    assert sorted(model.batches[1:]) == [1, 1, 4] or sorted(model.batches[1:]) == [1, 5]
    together = next(asked for asked in model.asked if len(asked[0]) == 4)
    assert together[1]["seeds"] == [int(key) for key in together[0]]


def test_sampled_requests_with_a_seed_are_answered_alone(model):
    with served(model) as address, _client(address) as client, ThreadPoolExecutor(8) as pool:
        first = pool.submit(_ask, client)
        until(lambda: model.batches)
        rest = [pool.submit(_ask, client, temperature=1.0, **({"seed": i} if i < 2 else {})) for i in range(4)]
        until(lambda: _metric(address, "nextgpt_requests_in_work") == 5)
        model.go.set()
        [answer.result() for answer in [first, *rest]]
    assert sorted(model.batches) == [1, 1, 1, 2]


def test_streams_take_turns_and_are_not_kept_waiting_by_batches(model):
    with served(model) as address, _client(address) as client:
        streams = [_ask(client, stream=True) for _ in range(2)]
        seen = [next(iter(stream)) for stream in streams]
        until(lambda: len(model.asked) >= 1)
        model.go.set()
        texts = ["".join(e.choices[0].delta.content or "" for e in stream) for stream in streams]
    assert len(seen) == 2
    assert texts == ["".join(TEXT)] * 2


def test_a_full_queue_answers_429_and_says_when_to_return(model):
    with served(model, ServerOptions(queue=2)) as address, _client(address) as client, ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(_ask, client) for _ in range(2)]
        until(lambda: _metric(address, "nextgpt_requests_in_work") == 2)
        with pytest.raises(openai.RateLimitError, match="2 requests are in work") as raised:
            _ask(client)
        assert int(raised.value.response.headers["retry-after"]) >= 1
        assert raised.value.code == "queue_full"
        model.go.set()
        assert all(answer.result().choices for answer in waiting)
        assert _ask(client).choices


def test_a_request_that_takes_too_long_ends_and_frees_the_model(model):
    with served(model, ServerOptions(timeout=0.3)) as address, _client(address) as client:
        with pytest.raises(openai.InternalServerError, match=r"not answered within 0\.3 seconds") as raised:
            _ask(client)
        assert raised.value.status_code == 504
        until(lambda: model.stopped == 1)
        with pytest.raises(openai.APIError, match=r"not answered within 0\.3 seconds"):
            list(_ask(client, stream=True))
        until(lambda: model.stopped == 2)
        model.go.set()
        assert _ask(client).choices


@pytest.mark.parametrize("streamed", [False, True])
def test_a_client_that_leaves_stops_its_reply(model, streamed):
    body = {"messages": [{"role": "user", "content": "Hi"}], "stream": streamed}
    with served(model) as address:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{address}/chat/completions", json=body, timeout=httpx.Timeout(5, read=0.3))
        until(lambda: model.stopped == 1)
        until(lambda: _metric(address, "nextgpt_requests_in_work") == 0)


def test_a_client_that_leaves_while_its_request_is_read_or_waits_is_never_answered(model):
    body = {"messages": [{"role": "user", "content": "gone"}]}
    with served(model, ServerOptions(readers=1)) as address, _client(address) as client, ThreadPoolExecutor(1) as pool:
        model.reading.clear()
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{address}/chat/completions", json=body, timeout=httpx.Timeout(5, read=0.3))
        until(lambda: _metric(address, "nextgpt_requests_in_work") == 0)
        model.reading.set()
        first = pool.submit(_ask, client)
        until(lambda: model.batches)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{address}/chat/completions", json=body, timeout=httpx.Timeout(5, read=0.3))
        until(lambda: _metric(address, "nextgpt_requests_in_work") == 1)
        model.go.set()
        assert first.result().choices
        assert _ask(client).choices
    assert [keys for keys, _ in model.asked] == [["Hi"], ["Hi"]]


def test_reading_has_part_of_the_time(model):
    model.reading.clear()
    with served(model, ServerOptions(timeout=0.3)) as address, _client(address) as client:
        with pytest.raises(openai.InternalServerError, match=r"not answered within 0\.3 seconds"):
            _ask(client)
        model.reading.set()
    assert not model.asked


def test_a_stream_that_waits_sends_comments(model):
    body = {"messages": [{"role": "user", "content": "Hi"}], "stream": True}
    with served(model, ServerOptions(keep_alive=0.05)) as address, _client(address) as client:
        with httpx.stream("POST", f"{address}/chat/completions", json=body, timeout=20) as response:
            lines = response.iter_lines()
            comments = [line for line in (next(lines) for _ in range(40)) if line.startswith(":")]
            assert len(comments) > 5
            model.go.set()
            assert list(lines)[-2:] == ["data: [DONE]", ""]
        model.go.clear()
        stream = _ask(client, stream=True)
        threading.Timer(0.3, model.go.set).start()
        assert "".join(event.choices[0].delta.content or "" for event in stream) == "".join(TEXT)


def test_others_of_a_batch_stay_when_one_client_leaves(model):
    body = {"messages": [{"role": "user", "content": "Hi"}]}
    with served(model) as address, _client(address) as client, ThreadPoolExecutor(4) as pool:
        first = pool.submit(_ask, client)
        until(lambda: model.batches)
        kept = pool.submit(_ask, client)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{address}/chat/completions", json=body, timeout=httpx.Timeout(5, read=0.3))
        model.go.set()
        assert first.result().choices
        assert kept.result().choices
    assert model.stopped == 0


def test_a_request_that_fails_in_a_batch_fails_alone(model):
    with served(model) as address, _client(address) as client, ThreadPoolExecutor(4) as pool:
        first = pool.submit(_ask, client)
        until(lambda: model.batches)
        rest = [pool.submit(_ask, client, text) for text in ("one", "fail", "two")]
        until(lambda: _metric(address, "nextgpt_requests_in_work") == 4)
        model.go.set()
        assert first.result().choices
        assert rest[0].result().choices
        assert rest[2].result().choices
        with pytest.raises(openai.InternalServerError, match="log says why"):
            rest[1].result()


def test_a_token_is_needed_but_for_the_health(model):
    model.go.set()
    with served(model, token="secret") as address:
        for key in ("wrong", "secre", "secret2"):
            with _client(address, key) as client, pytest.raises(openai.AuthenticationError, match="needs a token"):
                _ask(client)
        with _client(address, "secret") as client:
            assert _ask(client).choices
        root = address.removesuffix("/v1")
        assert httpx.get(f"{root}/health").json() == {"status": "ok"}
        assert httpx.get(f"{root}/metrics").status_code == 401


def test_the_end_of_the_server_waits_for_replies(model):
    answers = []
    with _client("http://nowhere") as client:
        with served(model) as address:
            thread = threading.Thread(target=lambda: answers.append(_ask(client.with_options(base_url=address))))
            thread.start()
            until(lambda: model.batches)
            threading.Timer(0.3, model.go.set).start()
        thread.join()
    assert answers[0].choices[0].message.content[0]["text"] == "".join(TEXT)
    with pytest.raises(httpx.ConnectError):
        httpx.get(address)


def test_metrics_count_requests_tokens_and_media(model):
    model.go.set()
    with served(model) as address, _client(address) as client:
        _ask(client)
        list(_ask(client, stream=True))
        with pytest.raises(openai.BadRequestError):
            _ask(client, max_tokens=0)
        assert _metric(address, 'nextgpt_requests_total{route="/v1/chat/completions",status="200"}') == 2
        assert _metric(address, 'nextgpt_requests_total{route="/v1/chat/completions",status="400"}') == 1
        assert _metric(address, 'nextgpt_tokens_total{kind="reply"}') == 14
        assert _metric(address, 'nextgpt_media_total{modality="image"}') == 2
        assert _metric(address, "nextgpt_first_text_seconds_count") == 1
