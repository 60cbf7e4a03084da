"""Whatever a configuration or a data row says: an error of ours, or a run that can start. Never another exception."""

import copy
import json
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nextgpt_pl.datamodules import Alpaca, DataFiles, OfficialDialogues, OfficialJSON
from nextgpt_pl.errors import UserError
from nextgpt_pl.saved_network import network_of
from nextgpt_pl.training.cli import build

EXPERIMENTS = Path(__file__).parent.parent.parent / "experiments"
BASES = ("enc_align.yaml", "dec_align.yaml", "instruct.yaml", "baselines/gallery.yaml", "baselines/retrieval.yaml")
BOUNDED = settings(
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)

TEXTS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["", "yes", "None", "0x10", "1e400", "a/b", "..", "nope.yaml", "pocket:llm", "/etc", "${x}", "${", "-"]
    ),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([-(10**9), 2**32, 10**9, 10**18, -0.0, 1e-300, 1e300, float("nan"), float("inf"), -0.5, 1.5]),
    TEXTS,
)
NAMES = st.sampled_from(["lr", "width", "height", "path", "image", "class_path", "init_args", "nope"])
SPECS = st.builds(
    lambda name, arguments: {"class_path": name, "init_args": arguments},
    st.sampled_from(
        [
            "subprocess.Popen",
            "os.system",
            "torch.nn.Linear",
            "nextgpt_pl.llm.CausalLM",
            "nextgpt_pl.encoders.ImageBindEncoder",
            "nextgpt_pl.projections.MLPOutputProjection",
            "nextgpt_pl.nowhere.Nothing",
            "nope",
        ]
    ),
    st.dictionaries(NAMES, SCALARS, max_size=2),
)
VALUES = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=3),
    st.dictionaries(NAMES, SCALARS, max_size=3),
    SPECS,
)


def _whole(name):
    """An experiment's YAML with the model that it includes."""
    text = yaml.safe_load((EXPERIMENTS / ("instruct.yaml" if "baselines" in name else name)).read_text())
    network = text["model"]["init_args"]["network"]
    text["model"]["init_args"]["network"] = yaml.safe_load((EXPERIMENTS / network).read_text())
    if "baselines" in name:
        laid_over = yaml.safe_load((EXPERIMENTS / name).read_text())
        decoders = laid_over["model"]["init_args"]["network"]["init_args"]["decoders"]
        text["model"]["init_args"]["network"]["init_args"]["decoders"] = decoders
    return text


WHOLE = [_whole(name) for name in BASES]


def _places(node, path=()):
    """The paths of all values in a configuration."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from _places(value, (*path, key))


@st.composite
def mutated(draw, wholes, values):
    """One of some configurations or rows with one to three values changed, dropped, added or renamed."""
    whole = draw(st.sampled_from(wholes))
    places, config = list(_places(whole)), copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        *path, last = draw(st.sampled_from(places))
        kind, value, name = draw(st.sampled_from(["set", "drop", "add", "rename"])), draw(values), draw(NAMES)
        try:
            node = config
            for key in path:
                node = node[key]
            if kind == "set":
                node[last] = value
            elif kind == "drop":
                del node[last]
            elif kind == "add" and isinstance(node[last], dict):
                node[last][name] = value
            elif kind == "rename" and isinstance(node, dict):
                node[name] = node.pop(last)
        except (KeyError, IndexError, TypeError):
            pass  # an earlier change has taken the place away
    return config


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nope.yaml").write_text("{a: 1}")


def _refusal(call, *arguments):
    """What an error of ours says; empty where there is none. Any other exception fails the test."""
    try:
        call(*arguments)
    except UserError as error:
        return str(error) or "nothing"
    return ""


def _builds_or_is_refused(config, tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    assert _refusal(build, ["-c", "config.yaml"]) != "nothing"


@settings(BOUNDED, max_examples=8)
@given(config=mutated(WHOLE, VALUES))
def test_a_configuration_is_refused_by_name_or_can_be_built(config, tmp_path):
    _builds_or_is_refused(config, tmp_path)


@pytest.mark.slow
@settings(BOUNDED, max_examples=40)
@given(config=mutated(WHOLE, VALUES))
def test_many_configurations_are_refused_by_name_or_can_be_built(config, tmp_path):
    _builds_or_is_refused(config, tmp_path)


@settings(BOUNDED, max_examples=100)
@given(config=mutated(WHOLE, VALUES))
def test_a_run_that_is_read_is_refused_by_name_or_can_be_built(config):
    assert _refusal(network_of, config) != "nothing"


TURNS = [{"from": "human", "value": "Draw <image>"}, {"from": "gpt", "value": "Here it is."}]
ROWS = [
    {"image_name": "a.png", "caption": "a star"},
    {"input_image": "a.png", "conversations": TURNS},
    {"output_image": ["a.png"], "image_captions": ["a star"], "conversations": TURNS},
    {"output_image": "a.png", "image_captions": "a star", "image_caption_embeddings": "a.npy", "conversations": TURNS},
    {"instruction": "Say hello.", "input": "loudly", "output": "Hello!"},
    {
        "messages": [
            {"role": "user", "content": [{"type": "image", "image": "a.png"}, {"type": "text", "text": "What is it?"}]},
            {"role": "assistant", "content": "A circle."},
        ]
    },
    {
        "messages": [{"role": "user", "content": "<image>What?"}, {"role": "assistant", "content": "It."}],
        "images": ["a.png"],
    },
    {"file_name": "a.png", "caption_1": "one", "caption_2": "two"},
    {"question": "What is it?", "answer": "a circle", "image": "a.png"},
    {"filename": "a.png", "sentences": [{"raw": "A circle."}], "split": "train"},
]
ROW_VALUES = st.one_of(
    VALUES, st.sampled_from(["human", "gpt", "<image>", "<image><video>", "../x.png", "x" * 300, "a\0.png", "a.npy"])
)


@settings(BOUNDED, max_examples=150)
@given(
    rows=st.one_of(st.lists(mutated(ROWS, ROW_VALUES), max_size=3), VALUES),
    source=st.sampled_from([DataFiles, OfficialJSON, OfficialDialogues, Alpaca]),
)
def test_a_row_is_used_or_named(rows, source, tmp_path):
    (tmp_path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    (tmp_path / "images").mkdir(exist_ok=True)
    (tmp_path / "images" / "a.png").touch()
    for on_error in ("raise", "skip"):
        said = _refusal(source(tmp_path, ["rows.json"], on_error=on_error).read, "train")
        assert not said or "rows.json" in said or "used 0 of 0" in said


@pytest.mark.parametrize("whole", WHOLE, ids=BASES)
def test_an_experiment_as_it_is_can_be_built(whole, tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(whole))
    assert all(build(["-c", "config.yaml"]))
