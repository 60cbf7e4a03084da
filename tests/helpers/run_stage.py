"""One process of some runs: ``run_stage.py '[{"stage": ..., "folder": ..., "out": ...}]'``.

Who it is, the environment says. Each run leaves ``out/RANK.pt``: the loss of each step, and all trainables, whole, as
this process sees them.
"""

import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

import tiny
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback

from nextgpt_pl.training.checkpoint_io import AtomicCheckpointIO
from nextgpt_pl.training.strategies import ShardedStrategy
from nextgpt_pl.utils.distributed import full_tensor, rank


class Losses(Callback):
    def __init__(self, save_at, path):
        self.found, self.save_at, self.path = {}, save_at, path

    def on_train_batch_end(self, trainer, *_):
        self.found[trainer.global_step] = {k: float(v) for k, v in trainer.callback_metrics.items()}
        if trainer.global_step == self.save_at:
            trainer.save_checkpoint(self.path)


def run(options):
    world, out, steps = options["world"], Path(options["out"]), options["steps"]
    out.mkdir(parents=True, exist_ok=True)
    stage, data = tiny.stage_and_data(
        options["stage"], Path(options["folder"]), options["batch"] // world, **options.get("data", {})
    )
    kind = options.get("strategy", "sharded")
    losses = Losses(options.get("save_at"), out / "half.ckpt")
    trainer = Trainer(
        accelerator="cpu",
        devices=world,
        strategy="auto" if world == 1 else ShardedStrategy(**options.get("shard", {})) if kind == "sharded" else kind,
        max_steps=steps,
        val_check_interval=options.get("val_every", steps),
        check_val_every_n_epoch=None,
        gradient_clip_val=1.0,
        callbacks=[losses],
        plugins=[AtomicCheckpointIO()],
        use_distributed_sampler=False,
        logger=False,
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=out,
    )
    trainer.fit(stage, data, ckpt_path=options.get("resume"))
    trainables = {name: full_tensor(p) for name, p in stage.trainable().items()}
    final = {k: float(v) for k, v in trainer.callback_metrics.items()}
    torch.save({"losses": losses.found, "trainables": trainables, "final": final}, out / f"{rank()}.pt")


if __name__ == "__main__":
    for run_options in json.loads(sys.argv[1]):
        run(run_options)
