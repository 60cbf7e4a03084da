"""The logged speed of training against a stopwatch and a count by hand: python benchmarks/throughput.py

Trains stage 2 and stage 3 of the pocket model for some steps. The stopwatch is another callback: it takes the time
between the ends of the first and the last step, and counts samples, and tokens without padding. Operations by hand are
those of matrix products: twice the weights per token forward, as many into the inputs, and as many again into weights
that train; attention takes 12 per pair of tokens, layer and unit of width. Encoder and denoiser are left out of both.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from figures import save
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback

from nextgpt_pl.sizing.operations import Operations, count_operations
from nextgpt_pl.training.cli import build
from nextgpt_pl.training.throughput import Throughput


class Watch(Callback):
    """The stopwatch, and what :class:`Throughput` has logged."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.samples: list[int] = []
        self.tokens: list[int] = []
        self.logged: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: Any, module: Any, _out: Any, batch: Any, _number: int) -> None:
        """Take the time."""
        self.ends.append(time.perf_counter())
        self.samples.append(len(batch))
        self.tokens.append(int(batch.on_host().attention_mask.sum()))
        if module.logs_this_step():
            found = {n.removeprefix("speed/"): float(v) for n, v in trainer.callback_metrics.items() if "speed/" in n}
            self.logged.append({**found, "step": len(self.ends)})


def by_hand(stage: Any, batch: Any) -> float:
    """Operations of a batch: the LLM's and the output projections'."""
    llm = stage.network.llm
    linear = [(n, m) for n, m in llm.model.base_model.layers.named_modules() if isinstance(m, torch.nn.Linear)]
    per_token = sum((6 if m.weight.requires_grad else 4) * m.weight.numel() for _, m in linear)
    config, lengths = llm.config, batch.lengths()
    attention = 12 * config.num_hidden_layers * config.hidden_size * sum(n * n for n in lengths)
    head = 4 * config.hidden_size * (llm.vocab_size + sum(stage.network.num_signal_tokens.values()))
    total = per_token * sum(lengths) + attention + head * batch.label_count()
    for modality, spans in batch.spans.items():
        projection = stage.network.output_projections[modality.value]
        weights = sum(p.numel() for p in projection.parameters() if p.ndim > 1)
        total += 6 * weights * len(spans.captions)
    return float(total)


def compare(experiment: str, steps: int) -> dict[str, float]:
    """Train, print the ratios and return them."""
    arguments = ["-c", f"experiments/{experiment}.yaml", "--data.num_workers=0"]
    stage, data = build(arguments)
    counted: Operations = replace(count_operations(build(arguments)[0]), shown={})
    watch, hand, ours = Watch(), 0.0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            max_steps=steps,
            limit_val_batches=0,
            num_sanity_val_steps=0,
            log_every_n_steps=10,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            default_root_dir=folder,
            callbacks=[Throughput(lambda: counted.of), watch],
        )
        trainer.fit(stage, datamodule=data)
        for batch, _ in zip(trainer.train_dataloader, range(5), strict=False):
            hand, ours = hand + by_hand(stage, batch), ours + counted.of(batch)
    first, last = watch.logged[0]["step"], watch.logged[-1]["step"]
    seconds = watch.ends[int(last) - 1] - watch.ends[int(first) - 1]
    windows = watch.logged[1:]
    ratios = {}
    for name, counts in (("samples_per_second", watch.samples), ("tokens_per_second", watch.tokens)):
        truth = sum(counts[int(first) : int(last)]) / seconds
        # rates of windows of equal counts of steps: their time is that of their samples
        times = [sum(counts[int(w["step"]) - 10 : int(w["step"])]) / w[name] for w in windows]
        logged = sum(counts[int(first) : int(last)]) / sum(times)
        ratios[f"{name}, logged / stopwatch"] = logged / truth
        print(f"{experiment} {name}: logged {logged:.2f}, stopwatch {truth:.2f}, ratio {logged / truth:.4f}")
    ratios["operations, counted / by hand"] = ours / hand
    print(f"{experiment} operations of five batches: counted {ours:.4g}, by hand {hand:.4g}, ratio {ours / hand:.4f}")
    return ratios


def main() -> None:
    """Parse the arguments and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=41)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    save(arguments.json, {name: compare(name, arguments.steps) for name in ("dec_align", "instruct")})


if __name__ == "__main__":
    main()
