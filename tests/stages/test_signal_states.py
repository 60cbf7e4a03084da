"""Rows that a frozen LLM has read are remembered: the same losses, without running it again."""

import pytest
import tiny
import torch

from nextgpt_pl.errors import UserError
from nextgpt_pl.features import FeatureCache
from nextgpt_pl.llm import CausalLM
from nextgpt_pl.stages import DecoderAlignment


def _run(tiny_models, folder, monkeypatch, cache=None, remember=True, epochs=2, together=1):
    """Losses of every step, how often the LLM ran in each, the trained projections, parameters of the LLM's layers."""
    whole, data = tiny.stage_and_data("DecoderAlignment", tiny_models, 6, train_size=4, cache=cache)
    stage = DecoderAlignment(
        whole.network, samples=0, train_signal_rows=False, rows_at_a_time=together, lr=1e-2, warmup_ratio=0.0
    )
    if not remember:
        stage.signal_states = None
    losses, passes, runs = [], [], [0]
    forward = CausalLM.forward

    def counted(self, *arguments):
        runs[0] += 1
        return forward(self, *arguments)

    monkeypatch.setattr(CausalLM, "forward", counted)

    def log(values, _split):
        losses.append({k: float(v) for k, (v, _) in values.items()})
        passes.append(runs[0])
        runs[0] = 0

    stage.log_split = log
    trainer = tiny.quiet_trainer(folder, max_epochs=epochs, limit_val_batches=0)
    trainer.fit(stage, data)
    monkeypatch.undo()
    layers = sum(".layers." in name for name, _ in stage.network.llm.named_parameters())
    return losses, passes, {n: p.detach().clone() for n, p in stage.trainable().items()}, layers


def test_losses_are_those_of_the_llm_and_it_reads_each_row_once(tiny_models, tmp_path, monkeypatch):
    plain, *_ = _run(tiny_models, tmp_path, monkeypatch, remember=False)
    remembered, passes, *_ = _run(tiny_models, tmp_path, monkeypatch)
    assert passes == [6, 6, 0, 0]
    for ours, theirs in zip(remembered, plain, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)


def test_rows_that_are_read_together_give_the_same_losses_in_fewer_passes(tiny_models, tmp_path, monkeypatch):
    alone, *_ = _run(tiny_models, tmp_path, monkeypatch)
    together, passes, *_ = _run(tiny_models, tmp_path, monkeypatch, together=4)
    assert passes == [2, 2, 0, 0]
    for ours, theirs in zip(together, alone, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)


def test_no_rows_at_a_time_is_refused(tiny_models):
    stage, _ = tiny.stage_and_data("DecoderAlignment", tiny_models, 6)
    with pytest.raises(UserError, match="rows_at_a_time=0: at least 1"):
        DecoderAlignment(stage.network, train_signal_rows=False, rows_at_a_time=0)


def test_a_cache_on_disk_gives_the_same_run_and_a_full_one_reads_no_layers(tiny_models, tmp_path, monkeypatch):
    remembered, _, weights, layers = _run(tiny_models, tmp_path, monkeypatch)
    for passes_wanted, layers_wanted in (([6, 6, 0, 0], layers), ([0, 0, 0, 0], 0)):
        cache = FeatureCache(tmp_path / "cache", "float32")
        losses, passes, found, layers_read = _run(tiny_models, tmp_path, monkeypatch, cache)
        assert passes == passes_wanted
        assert layers_read == layers_wanted
        assert losses == remembered
        assert all(torch.equal(found[name], weights[name]) for name in weights)


def test_other_signal_rows_are_another_producer(tiny_models, tmp_path):
    stages = []
    for seed in (0, 1):
        stage, _ = tiny.stage_and_data("DecoderAlignment", tiny_models, 6, cache=FeatureCache(tmp_path, "float32"))
        torch.manual_seed(seed)
        stages.append(DecoderAlignment(stage.network, samples=0, train_signal_rows=False))
        torch.manual_seed(seed)
        stages[-1].configure_model()
    producers = [stage.signal_states._producer() for stage in stages]
    assert producers[0]["added"] != producers[1]["added"]
    assert producers[0]["weights"] == producers[1]["weights"]
    stages[1].signal_states.rows_at_a_time = 2
    assert stages[1].signal_states._producer() == producers[1] | {"rows_at_a_time": 2}


def test_states_of_an_llm_in_another_dtype_are_kept_apart(tiny_models, tmp_path):
    stores = []
    for dtype in ("float32", "bfloat16"):
        network = tiny.network(tiny_models, FeatureCache(tmp_path, "float32"), dtype=dtype)
        network.load()
        for rows in (p for name, p in network.llm.named_parameters() if name.endswith(".rows")):
            torch.nn.init.ones_(rows)
        stage = DecoderAlignment(network, samples=0, train_signal_rows=False)
        stores.append(stage.signal_states._store("text").folder)
    assert stores[0] != stores[1]


def test_states_of_other_extra_tokens_and_of_another_gguf_file_are_kept_apart(tiny_models, tmp_path):
    producers = []
    for seed in (0, 1):
        network = tiny.network(tiny_models, FeatureCache(tmp_path, "float32"), extra_tokens=["<Img>"])
        torch.manual_seed(seed)
        network.load()
        for rows in (p for name, p in network.llm.named_parameters() if name.endswith(".rows")):
            torch.nn.init.ones_(rows)
        states = DecoderAlignment(network, samples=0, train_signal_rows=False).signal_states
        producers.append(states._producer())
    assert producers[0]["added"] != producers[1]["added"]
    files = []
    for file in ("q4.gguf", "q8.gguf"):  # which may lie in one folder
        network.llm.pretrained.gguf_file = file
        files.append(states._producer())
    assert files[0] != files[1]


def test_where_rows_or_the_llm_train_nothing_is_remembered(tiny_models):
    stage, _ = tiny.stage_and_data("DecoderAlignment", tiny_models, 6)
    assert stage.signal_states is None
    tuning, _ = tiny.stage_and_data("InstructionTuning", tiny_models, 6)
    assert tuning.signal_states is None
