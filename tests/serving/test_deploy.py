"""The files in docs/deploy/ fit the server and each other."""

import functools
import re
from pathlib import Path

import yaml

from nextgpt_pl.__main__ import main
from nextgpt_pl.verbs import serving

DEPLOY = Path(__file__).parent.parent.parent / "docs" / "deploy"
PROXY = (DEPLOY / "nginx.conf").read_text()
SERVICES = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]


def _started(monkeypatch):
    """What the command of the containers passes to ``serve``."""
    taken = {}

    @functools.wraps(serving.serve)
    def serve(**given):
        taken.update(given)
        return 0

    monkeypatch.setattr(serving, "serve", serve)
    assert SERVICES["model"]["command"][:3] == ["python", "-m", "nextgpt_pl"]
    assert main(SERVICES["model"]["command"][3:]) == 0
    return taken


def test_the_containers_run_the_server_where_the_proxy_looks_for_it(monkeypatch):
    model = SERVICES["model"]
    taken = _started(monkeypatch)
    (volume,) = model["volumes"]
    assert (str(taken["run"]), volume["read_only"]) == (volume["target"], True)
    assert taken["host"] == "0.0.0.0"
    assert re.search(r"^ *server (\w+):(\d+)", PROXY, re.MULTILINE).groups() == ("model", str(taken["port"]))
    assert f":{taken['port']}/health" in model["healthcheck"]["test"][-1]
    assert set(model["environment"]) == {serving.TOKEN_VARIABLE}
    copied = re.findall(r"^COPY (.*) \S+$", model["build"]["dockerfile_inline"], re.MULTILINE)
    assert all((DEPLOY.parent.parent / name).exists() for names in copied for name in names.split())


def test_the_proxy_waits_longer_than_the_server_and_takes_the_same_sizes(monkeypatch):
    options = _started(monkeypatch)["options"]
    assert int(re.search(r"proxy_read_timeout (\d+)s;", PROXY)[1]) > options.timeout
    assert int(SERVICES["model"]["stop_grace_period"].removesuffix("s")) > options.timeout
    assert int(re.search(r"client_max_body_size (\d+)m;", PROXY)[1]) * 2**20 >= options.max_body
    (mount,) = SERVICES["proxy"]["volumes"]
    assert mount.split(":")[0] == "./docs/deploy/nginx.conf"
