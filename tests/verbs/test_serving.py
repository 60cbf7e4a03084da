"""The verb ``serve``: its options, its mistakes, and what it starts."""

import socket
import subprocess
import sys

import pytest

from nextgpt_pl.__main__ import main
from nextgpt_pl.pipeline import AnyToAny
from nextgpt_pl.serving import app as app_module
from nextgpt_pl.serving import run as run_module
from nextgpt_pl.serving.options import ServerOptions


def test_help_imports_neither_torch_nor_fastapi():
    code = (
        "import sys\nfrom nextgpt_pl.__main__ import main\n"
        "try:\n    main(['serve', '--help'])\nexcept SystemExit:\n    pass\n"
        "assert not {'torch', 'fastapi', 'httpx'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(f"--{name}" in done.stdout for name in (*vars(ServerOptions()), "host", "token_file"))


@pytest.mark.parametrize("package", ["fastapi", "httpx", "prometheus_client", "uvicorn"])
def test_without_a_package_the_install_command_is_named(monkeypatch, capsys, package):
    for name in ("app", "run", "chat", "media", "fetching", "intake", "service", "metrics", "gate", "engine"):
        monkeypatch.delitem(sys.modules, f"nextgpt_pl.serving.{name}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["serve", "--run", "nowhere"]) == 2
    assert "error: serve: pip install 'nextgpt-pl[serve]'" in capsys.readouterr().err


@pytest.fixture
def started(monkeypatch):
    """What the verb starts, instead of starting it."""
    calls = []
    monkeypatch.delenv("NEXTGPT_TOKEN", raising=False)
    monkeypatch.setattr(AnyToAny, "from_run", lambda *given, **named: calls.append((given, named)) or "model")
    monkeypatch.setattr(app_module, "application", lambda *given: calls.append(given) or "app")
    monkeypatch.setattr(run_module, "run", lambda *given: calls.append(given) or 0)
    return calls


def test_options_reach_the_model_the_application_and_the_server(started, tmp_path, capsys):
    (tmp_path / "token").write_text("secret\n")
    (tmp_path / "token").chmod(0o600)
    arguments = ["--run", str(tmp_path / "my_run"), "--port", "0", "--token_file", str(tmp_path / "token")]
    limits = ["--queue", "3", "--timeout", "7", "--max_media_mb", "2", "--allow_host", "a.org"]
    assert main(["serve", *arguments, *limits, "--allow_host", "B.org:1", "--trust", "my.Class"]) == 0
    ((run,), named), application, server = started
    assert str(run) == str(tmp_path / "my_run")
    assert (named["trust"], named["access"].folders, named["access"].max_bytes) == (["my.Class"], (), 2_000_000)
    options = ServerOptions(queue=3, timeout=7.0, max_media_mb=2.0, allow_host=["a.org", "B.org:1"])
    assert application == ("model", "my_run", options, "secret")
    assert options.origins() == {("a.org", 443), ("b.org", 1)}
    assert server[:4] == ("app", "127.0.0.1", 0, 7.0)
    assert "note" not in capsys.readouterr().out


@pytest.mark.parametrize(("token", "noted"), [("", True), ("secret", False)])
def test_an_open_server_without_token_is_noted(started, monkeypatch, capsys, token, noted):
    monkeypatch.setenv("NEXTGPT_TOKEN", token)
    assert main(["serve", "--run", "x", "--host", "0.0.0.0", "--port", "0"]) == 0
    assert ("requests need no token (NEXTGPT_TOKEN)" in capsys.readouterr().out) == noted
    assert started[1][3] == (token or None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run", "x", "--queue", "0"], "queue=0: at least 1 is expected"),
        (["--run", "x", "--keep_alive", "0"], "keep_alive=0.0: a number above 0 is expected"),
        (["--run", "x", "--max_media_mb", "-1"], "max_media_mb=-1.0: a number above 0 is expected"),
        (["--run", "x", "--timeout", "inf"], "timeout: float is expected, got 'inf'"),
        (["--run", "x", "--timeout", ".inf"], "timeout=inf: a number above 0 is expected"),
        (["--run", "x", "--port", "65536"], "port=65536: a number from 0 to 65535 is expected"),
        (["--run", "x", "--port", "http"], "port: int is expected, got 'http'"),
        (["--run", "x", "--host", "192.0.2.1"], "host=192.0.2.1, port=8000: Cannot assign requested address"),
        (["--run", "x", "--allow_hosts", "a"], "allow_hosts: no such key; did you mean 'allow_host'?"),
        (["--run", "x", "--allow_host", "https://a.org"], "allow_host='https://a.org': HOST or HOST:PORT is expected"),
        (["--run", "x", "--allow_host", "a.org/b"], "allow_host='a.org/b': HOST or HOST:PORT"),
        (["--run", "x", "--allow_host", "u@a.org"], "allow_host='u@a.org': HOST or HOST:PORT"),
        (["--run", "x", "--allow_host", "bücher.de"], "allow_host='bücher.de': HOST or HOST:PORT"),
        (["--run", "x", "--allow_host", "a:b"], "allow_host='a:b': HOST or HOST:PORT"),
        (["--run", "x", "--allow_host", ""], "allow_host='': HOST or HOST:PORT"),
        (["--run", "x", "--token_file", "none"], "token_file=none: No such file or directory"),
        (["--run", "x", "--token_file", "open"], "token_file=open: all users can read it; chmod 600 open"),
        (["--run", "x", "--token_file", "two"], "token_file=two: one token without spaces is expected"),
        (["--run", "x", "--token_file", "empty"], "token_file=empty: one token without spaces is expected"),
        (["--run", "x", "--token_file", "binary"], "token_file=binary: not a line of ASCII"),
    ],
)
def test_mistakes_end_with_one_message_before_the_model_is_loaded(
    started, tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    for name, data in {"open": b"secret", "two": b"a b", "empty": b"", "binary": b"\xff"}.items():
        (tmp_path / name).write_bytes(data)
        (tmp_path / name).chmod(0o644 if name == "open" else 0o600)
    assert main(["serve", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not started


def test_a_port_that_is_taken_is_named(started, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--run", "x", "--port", str(port)]) == 2
    assert f"host=127.0.0.1, port={port}: Address already in use" in capsys.readouterr().err
    assert not started
