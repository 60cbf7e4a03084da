import json
from types import SimpleNamespace

import pytest
import torch
from tiny import network as tiny_network
from tiny import quiet_trainer, stage_and_data

from nextgpt_pl.__main__ import main
from nextgpt_pl.dialogue.batching import pad
from nextgpt_pl.errors import UserError
from nextgpt_pl.llm import LoRA
from nextgpt_pl.pocket.world import dialogues
from nextgpt_pl.sizing.operations import count_operations
from nextgpt_pl.stages import DecoderAlignment, EncoderAlignment, InstructionTuning
from nextgpt_pl.training import throughput
from nextgpt_pl.training.runs import RunConfig
from nextgpt_pl.training.throughput import Throughput, peak_flops
from nextgpt_pl.utils.stopwatch import Stopwatch


class Clock:
    """Stands still until it is moved."""

    def __init__(self):
        self.now = 100.0

    def perf_counter(self):
        return self.now


class Batch:
    """Rows of these lengths."""

    def __init__(self, *lengths):
        self._lengths = list(lengths)
        self.reading = 2.0

    def __len__(self):
        return len(self._lengths)

    def lengths(self):
        return self._lengths


class Stage:
    """Logs every second step."""

    device = torch.device("cpu")

    def __init__(self, clock):
        self.logged, self.steps = [], 0
        self.network = SimpleNamespace(stopwatch=Stopwatch(), llm=SimpleNamespace(dtype_name="float32"))

    def logs_this_step(self):
        self.steps += 1
        return self.steps % 2 == 0

    def log_dict(self, values):
        self.logged.append(values)


def test_rates_are_those_of_all_ranks_without_validation_and_padding(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(throughput, "time", clock)
    monkeypatch.setattr(throughput, "peak_flops", lambda *_: 50.0)
    stage, trainer = (
        Stage(clock),
        SimpleNamespace(world_size=2, precision="32-true", train_dataloader=SimpleNamespace(num_workers=4)),
    )
    callback = Throughput(lambda: lambda batch: 40.0 * len(batch))
    callback.on_train_start(trainer, stage)

    def step(batch, waits, computes):
        clock.now += waits
        callback.on_train_batch_start(trainer, stage, batch, 0)
        clock.now += computes
        callback.on_train_batch_end(trainer, stage, None, batch, 0)

    step(Batch(9, 9), 50, 50)  # the first step does not count
    step(Batch(3, 5), 1, 3)
    callback.on_validation_start(trainer, stage)
    clock.now += 1000
    callback.on_validation_end(trainer, stage)
    step(Batch(4, 8, 2, 2), 2, 4)
    (values,) = stage.logged
    assert values.pop("speed/peak_memory_gb") > 0
    assert values == {
        "speed/samples_per_second": 2 * 6 / 10,
        "speed/tokens_per_second": 2 * 24 / 10,
        "speed/waiting": 3 / 10,
        "speed/reading": (2 + 2) / 10 / 4,
        "speed/mfu": 40 * 6 / 10 / 50,
    }
    step(Batch(1), 0, 1)
    step(Batch(1), 0, 1)
    assert stage.logged[1]["speed/samples_per_second"] == 2 * 2 / 2, "each entry is of the steps since the last one"


def test_a_count_that_fails_costs_the_utilization_alone(tmp_path, tiny_models):
    def fails():
        raise RuntimeError("no such layer")

    stage, data = stage_and_data("DecoderAlignment", tiny_models, 2)
    trainer = quiet_trainer(tmp_path, max_steps=4, log_every_n_steps=2, callbacks=[Throughput(fails)])
    trainer.fit(stage, datamodule=data)
    assert trainer.callback_metrics["speed/samples_per_second"] > 0
    assert "speed/mfu" not in trainer.callback_metrics


def _linear_weights(stage):
    """Numbers of an LLM's weights per token: frozen ones, and LoRA's."""
    layers = stage.network.llm.model.base_model.layers
    named = [(name, m.weight.numel()) for name, m in layers.named_modules() if isinstance(m, torch.nn.Linear)]
    lora = sum(size for name, size in named if "lora_" in name)
    return sum(size for _, size in named) - lora, lora


@pytest.mark.parametrize("kind", [EncoderAlignment, DecoderAlignment, InstructionTuning])
def test_operations_are_those_counted_by_hand(kind, tiny_models):
    options = {"lora": LoRA(r=2, alpha=4, dropout=0.0)} if kind is InstructionTuning else {}
    stage = kind(tiny_network(tiny_models), **options)
    operations = count_operations(stage)
    frozen, lora = _linear_weights(stage)
    config = stage.network.llm.config
    # forward, and backward into the inputs; weights that train also take the backward pass into themselves
    assert operations.token == pytest.approx(4 * frozen + 6 * lora, rel=0.03)
    attention = (
        config.num_hidden_layers * config.num_attention_heads * (config.hidden_size // config.num_attention_heads)
    )
    # two products forward, four backward; fused kernels do the first one again
    assert 12 * attention <= operations.pair <= 14 * attention
    rows = sum(stage.network.num_signal_tokens.values())
    width, vocabulary = config.hidden_size, stage.network.llm.vocab_size
    assert 4 * width * vocabulary <= operations.label <= (4 * vocabulary + 6 * rows) * width * 1.03
    assert set(operations.shown) == (set() if kind is DecoderAlignment else set(stage.network.encoder.modalities))
    assert set(operations.made) == (set() if kind is EncoderAlignment else set(stage.network.decoders))


def test_operations_of_a_batch_leave_padding_out(tiny_models):
    stage, _ = stage_and_data("InstructionTuning", tiny_models, 4)
    operations = count_operations(stage)
    rows = [stage.renderer(dialogues.dialogue(route, "train", 0)) for route in ("text->text", "image->video")]
    together, *alone = (pad(found, 0) for found in (rows, *([row] for row in rows)))
    assert len(rows[0].input_ids) != len(rows[1].input_ids)
    assert operations.of(together) == pytest.approx(sum(map(operations.of, alone)))
    assert operations.of(together) > operations.token * sum(together.lengths()) > 0


def test_the_peak_of_a_cpu_is_measured():
    assert peak_flops(torch.device("cpu"), torch.float32) > 1e8


def test_a_profile_of_some_steps_is_left(tmp_path, capsys):
    with pytest.raises(UserError, match=r"run\.profile=0"):
        RunConfig(profile=0)
    arguments = ["-c", "experiments/dec_align.yaml", f"--run.root={tmp_path}", "--run.name=x", "--run.profile=1"]
    small = ["--data.sources.init_args.train_size=4", "--data.batch_size=2", "--trainer.limit_val_batches=0"]
    assert main(["fit", *arguments, *small, "--trainer.max_steps=6", "--trainer.val_check_interval=null"]) == 0
    traces = list((tmp_path / "dec_align" / "x" / "profile").glob("*.json"))
    assert len(traces) == 1
    assert any("training_step" in event["name"] for event in json.loads(traces[0].read_text())["traceEvents"])
    assert main(["fit", *arguments, "--trainer.profiler=simple"]) == 2
    assert "run.profile and trainer.profiler" in capsys.readouterr().err
