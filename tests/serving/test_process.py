"""``serve`` as a process of its own: its address, and its end by a signal."""

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from served import TEXT, until

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parent.parent / "helpers" / "run_server.py"
BODY = {"messages": [{"role": "user", "content": "Hi"}], "modalities": ["text"]}


@pytest.fixture
def go(tmp_path):
    """The file that lets the model reply."""
    return tmp_path / "go"


@pytest.fixture
def process(go):
    command = [sys.executable, str(SCRIPT), str(go), "--port", "0", "--timeout", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@pytest.fixture
def address(process):
    line = process.stdout.readline()
    assert line.startswith("serving tiny at http://127.0.0.1:"), process.stderr.read()
    return line.split()[-1]


def _in_work(address):
    lines = httpx.get(address.replace("/v1", "/metrics")).text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("nextgpt_requests_in_work "))


def _refused(address):
    try:
        httpx.get(address.replace("/v1", "/health"))
    except (httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError):  # closed before or after the connection
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_requests_finish_and_refuses_new_ones(process, address, go, number):
    url = f"{address}/chat/completions"
    with ThreadPoolExecutor(1) as pool, httpx.stream("POST", url, json={**BODY, "stream": True}, timeout=60) as stream:
        events = stream.iter_lines()
        next(events)
        whole = pool.submit(httpx.post, url, json=BODY, timeout=60)
        until(lambda: _in_work(address) == 2)
        process.send_signal(number)
        until(lambda: _refused(address))
        assert process.poll() is None
        assert not whole.done()
        go.touch()
        assert whole.result().json()["choices"][0]["message"]["content"] == "".join(TEXT)
        assert [line for line in events if line][-1] == "data: [DONE]"
    assert process.wait(30) == 0
    assert process.stderr.read() == ""


def test_a_second_signal_ends_at_once(process, address):
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(httpx.post, f"{address}/chat/completions", json=BODY, timeout=60)
        until(lambda: _in_work(address) == 1)
        process.send_signal(signal.SIGINT)
        until(lambda: _refused(address))
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        with pytest.raises(httpx.HTTPError):
            asked.result()
    assert process.stderr.read() == ""
