"""What the benchmark of training steps compares is the same computation; what that of the server counts is right."""

import json
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import cache
import evaluation
import figures
import generation
import packing
import serving
import step_variants as steps
from served import ToldModel, served

from nextgpt_pl.encoders.imagebind import TowerConfig
from nextgpt_pl.evaluation import PocketRoute
from nextgpt_pl.evaluation.judged import JudgedRight
from nextgpt_pl.generation.decoding import Decoding
from nextgpt_pl.pipeline import AnyToAny
from nextgpt_pl.serving.options import ServerOptions

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 8_000}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(steps.LLMS, "small", SIZES | {"num_attention_heads": 4, "num_key_value_heads": 2})
        patch.setattr(steps, "TOWERS", {"vision": TowerConfig(16, 1, 2), "audio": TowerConfig(16, 1, 2, scale=20.0)})
        steps.save_models(folder, "small")
    return folder


@pytest.mark.parametrize(
    ("stage", "encoder"), [(s, e) for s in steps.STAGES for e in (False, True) if not (e and s.startswith("dec"))]
)
def test_the_reference_has_the_losses_of_ours_step_by_step(models, stage, encoder):
    setting = steps.Setting(stage, models, rows=3, encoder=encoder)
    ours, reference = steps.Ours(setting), steps.Reference(setting)
    for _ in range(2):
        assert ours() == pytest.approx(reference(), rel=1e-4)


@pytest.mark.parametrize("stage", steps.STAGES)
def test_the_code_as_released_begins_with_the_same_loss_and_trains_more(models, stage):
    setting = steps.Setting(stage, models, rows=3)
    ours, released = steps.Ours(setting), steps.Released(setting)
    assert ours() == pytest.approx(released(), rel=1e-4)
    counts = [sum(len(g["params"]) for g in turn.optimizer.param_groups) for turn in (ours, released)]
    assert counts[0] < counts[1]


def test_the_limits_are_parts_of_the_same_loss(models):
    setting = steps.Setting("dec_align", models, rows=6, llm={"packing": True})
    ours, bare, alone = (kind(setting) for kind in (steps.Ours, steps.Bare, steps.ProjectionsAlone))
    assert ours() == pytest.approx(bare() + alone(), rel=1e-4)


def test_the_load_on_a_server_is_counted(capsys):
    model = ToldModel()
    with served(model, ServerOptions(queue=2)) as address, ThreadPoolExecutor(1) as pool:
        loaded = pool.submit(serving.load, address, 6, 2.0, 5)
        while 'status="429"' not in httpx.get(address.replace("/v1", "/metrics")).text:
            assert not loaded.done()
        model.go.set()
        outcome = loaded.result()
        counted = httpx.get(address.replace("/v1", "/metrics")).text
        serving.print_all(address, os.getpid(), 0.3, 5)
    assert outcome.media == outcome.statuses[200] >= 2
    assert outcome.statuses[429] >= 4
    assert (outcome.without_hint, outcome.failures, outcome.answered) == (0, {}, sum(outcome.statuses.values()))
    for status, number in outcome.statuses.items():
        assert re.search(rf'nextgpt_requests_total{{route="[^"]*",status="{status}"}} {number}\.0', counted)
    printed = capsys.readouterr().out
    assert "64 clients, queue of 32: " in printed
    assert "lost: 0" in printed
    assert "first medium: median 0." in printed


def test_connections_that_fail_are_counted_as_lost():
    outcome = serving.load("http://127.0.0.1:9/v1", 2, 0.2, 5)
    assert outcome.failures["ConnectError"] >= 2
    assert outcome.answered == 0


def test_packed_grouped_and_padded_rows_have_the_same_loss(models):
    batch = packing.mixture(8, SIZES["vocab_size"])
    losses = [packing.stepper(models, options, batch)() for options in packing.WAYS.values()]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)
    assert max(batch.lengths()) > 300 > 80 >= min(batch.lengths())


def test_a_store_is_read_and_its_errors_grow_as_its_bytes_shrink(tmp_path):
    cache.write_store(tmp_path / "store", 300)
    read = cache.read_store(tmp_path, 300)
    assert read["items"] == 300
    assert all(value > 0 for name, value in read.items() if "per second" in name)
    sizes = cache.sizes(tmp_path)
    by_size = sorted(sizes.values(), key=lambda found: (-found["bytes per item"], found["relative error"]))
    assert [found["relative error"] for found in by_size] == sorted(found["relative error"] for found in by_size)
    assert sizes["float32"]["relative error"] == 0


@pytest.mark.slow
def test_replies_of_both_ways_of_generation_are_the_same():
    found = generation.compare(AnyToAny.from_run(device="cpu"), "text->image+audio", 2, Decoding(), 1)
    assert (found["same tokens"], found["media"]) == (2, 4)
    assert found["passes"]["ours"] < found["passes"]["reference"]


@pytest.mark.slow
def test_the_parts_of_an_evaluation_add_up(tmp_path):
    model = AnyToAny.from_run(device="cpu")
    seconds = evaluation.measure(model, PocketRoute("text->image", [JudgedRight()], count=2), tmp_path)
    assert seconds["all"] == pytest.approx(seconds["predict"] + seconds["score"] + seconds["report"], rel=0.05)
    found = evaluation.figures_of(seconds, 2)
    parts = sum(value for name, value in found.items() if name.endswith("per item"))
    assert parts == pytest.approx(1000 * seconds["all"] / 2, rel=0.05)
    assert found["ratio"] > 1


def test_figures_are_saved_with_their_circumstances(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["benchmarks/packing.py", "--rows", "4", "--json", "out.json"])
    monkeypatch.setenv("MALLOC_TOP_PAD_", "1024")
    figures.save(tmp_path / "out.json", {"packed": {"tokens a second": 3.0}})
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["figures"] == {"packed": {"tokens a second": 3.0}}
    assert record["circumstances"]["command"] == "python benchmarks/packing.py --rows 4"
    assert record["circumstances"]["variables"]["MALLOC_TOP_PAD_"] == "1024"
