"""One of two ranks, the second of which has a step that is not finite: ``poisoned.py MODELS '[{...}]'``."""

import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

import tiny
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback

from nextgpt_pl.errors import UserError
from nextgpt_pl.training.strategies import ShardedStrategy
from nextgpt_pl.utils.distributed import full_tensor, rank


class Poison(Callback):
    def __init__(self, kind):
        self.kind, self.keys = kind, []

    def on_train_start(self, trainer, pl_module):
        step = pl_module.model_step

        def poisoned(batch, split):
            loss = step(batch, split)
            if split != "train" or trainer.fit_loop.epoch_loop.total_batch_idx != 2:
                return loss
            self.keys = list(batch.keys)
            if rank() == 0:
                return loss
            return loss * float("nan") if self.kind == "loss" else loss + (loss - loss.detach()).sqrt()

        pl_module.model_step = poisoned


def run(models, options):
    out = Path(options["out"])
    out.mkdir(parents=True, exist_ok=True)
    stage, data = tiny.stage_and_data("DecoderAlignment", models, 1)
    stage.step_agreement.on_nonfinite = options["policy"]
    poison, message = Poison(options["kind"]), ""
    trainer = Trainer(
        accelerator="cpu",
        devices=2,
        strategy=ShardedStrategy() if options["strategy"] == "sharded" else "ddp",
        max_steps=4,
        limit_val_batches=0,
        gradient_clip_val=1.0,
        callbacks=[poison],
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=out,
    )
    try:
        trainer.fit(stage, data)
    except UserError as error:
        message = str(error)
    weights = {name: full_tensor(p) for name, p in stage.trainable().items()}
    found = {"message": message, "steps": trainer.global_step, "skipped": stage.step_agreement.skipped}
    torch.save({**found, "weights": weights, "keys": poison.keys}, out / f"{rank()}.pt")


if __name__ == "__main__":
    for one in json.loads(sys.argv[2]):
        run(Path(sys.argv[1]), one)
