"""One process of two that train on streamed shards: ``run_stream.py MODELS SHARDS OUT PHASE``.

Phase ``killed`` trains an epoch, then another run that saves a checkpoint after two steps and is killed after three.
Phase ``resumed`` resumes from the checkpoint. The numbers of each step's items are written to ``OUT/RUN.RANK``.
"""

import json
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import tiny
from lightning.pytorch.callbacks import Callback

from nextgpt_pl.datamodules import CaptionedPairs, StreamedShards
from nextgpt_pl.stages import EncoderAlignment
from nextgpt_pl.training.checkpoint_io import AtomicCheckpointIO
from nextgpt_pl.utils.distributed import rank


class Steps(Callback):
    def __init__(self, out, run):
        self.out, self.run = out, run

    def on_train_batch_end(self, trainer, stage, outputs, batch, index):
        texts = [stage.network.llm.tokenizer.decode(ids) for ids in batch.input_ids]
        numbers = [int(text.partition("number")[2].split("<")[0].replace(" ", "")) for text in texts]
        with (self.out / f"{self.run}.{rank()}").open("a") as file:
            print(json.dumps(numbers), file=file)
        if self.run == "killed" and trainer.global_step == 2:
            trainer.save_checkpoint(self.out / "two.ckpt")
        if self.run == "killed" and trainer.global_step == 3:
            trainer.strategy.barrier()
            os.kill(os.getpid(), signal.SIGKILL)


def fit(models, shards, out, run, workers, resumed=None):
    stage = EncoderAlignment(tiny.network(models), captions=0, lr=1e-2, warmup_ratio=0.0)
    source = StreamedShards([f"{shards}/{{0..1}}.tar"], folder=out / "kept")
    trainer = tiny.quiet_trainer(
        out,
        devices=2,
        strategy="ddp",
        max_epochs=2,
        limit_val_batches=0,
        callbacks=[Steps(out, run)],
        plugins=[AtomicCheckpointIO()],
        use_distributed_sampler=False,
    )
    trainer.fit(stage, CaptionedPairs([source], batch_size=4, num_workers=workers), ckpt_path=resumed)


if __name__ == "__main__":
    found_models, found_shards, found_out = map(Path, sys.argv[1:4])
    if sys.argv[4] == "resumed":
        fit(found_models, found_shards, found_out, "resumed", 2, found_out / "two.ckpt")
    else:
        fit(found_models, found_shards, found_out, "whole", 0)
        fit(found_models, found_shards, found_out, "killed", 1)
