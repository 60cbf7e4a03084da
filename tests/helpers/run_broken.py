"""One rank of a training in which some files are broken: ``run_broken.py MODELS FILES OUT``.

Who it is, the environment says. Leaves ``OUT/RANK.pt``: the loss and the number of rows of each step, the rows that the
data module counted, and all trainables as this process sees them.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import tiny
import torch
from lightning.pytorch.callbacks import Callback

from nextgpt_pl.datamodules import CaptionedPairs, CaptionFolder
from nextgpt_pl.stages import EncoderAlignment
from nextgpt_pl.utils.distributed import rank


class _Steps(Callback):
    def __init__(self):
        self.found = []

    def on_train_batch_end(self, trainer, stage, outputs, batch, index):
        self.found.append((float(trainer.callback_metrics["train/loss"]), len(batch)))


def run(models: Path, files: Path, out: Path) -> None:
    """Two epochs; with several processes by DDP."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    stage = EncoderAlignment(tiny.network(models), captions=0, lr=1e-2, warmup_ratio=0.0)
    source = CaptionFolder(files, "all.jsonl", "skip", val_fraction=0.0)
    data = CaptionedPairs([source], batch_size=4 // world, val_batch_size=4 // world)
    steps = _Steps()
    strategy = "ddp" if world > 1 else "auto"
    options = {"devices": world, "strategy": strategy, "callbacks": [steps], "use_distributed_sampler": False}
    tiny.quiet_trainer(out, max_epochs=2, log_every_n_steps=1, **options).fit(stage, data)
    trainables = {name: p.detach() for name, p in stage.trainable().items()}
    found = {"steps": steps.found, "rows": data.rows_used(), "trainables": trainables}
    torch.save(found, out / f"{rank()}.pt")


if __name__ == "__main__":
    run(*map(Path, sys.argv[1:]))
