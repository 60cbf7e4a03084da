"""One process of the matrix: ``run_cells.py MODELS OUT SECONDS [CELL ...]``; who it is, the environment says.

Runs its cells one after another, and leaves ``OUT/CELL.RANK.pt`` of each: what every step logged, what validation
logged, the weights that training began with, and all trainables, whole, as this process sees them; and
``OUT/CELL.RANK.calls``, the collectives that it has called, a line each. Says on its standard output which cell it
begins and ends. A cell that takes longer than SECONDS ends the process, with the stacks of all threads.
"""

import faulthandler
import functools
import gc
import os
import shutil
import sys
import traceback
import weakref
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import cells
import torch
import torch.distributed as dist
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from safetensors.torch import load_file

from nextgpt_pl.training.checkpoint_io import AtomicCheckpointIO
from nextgpt_pl.training.strategies import ShardedStrategy
from nextgpt_pl.utils.distributed import full_tensor, rank

_PLAIN = {"alone": "auto", "ddp": "ddp"}
_COLLECTIVES = ("all_reduce", "broadcast", "all_gather", "all_gather_into_tensor", "reduce_scatter_tensor")
_COLLECTIVES += ("_all_gather_base", "_reduce_scatter_base", "barrier", "broadcast_object_list", "all_gather_object")


@contextmanager
def written_down(path):
    """Write each collective of Python code (DDP's own are in C++) to a file before it is called: name, size, caller."""
    originals = {name: getattr(dist, name) for name in _COLLECTIVES if hasattr(dist, name)}

    def noting(name, function, file):
        @functools.wraps(function)
        def call(*args, **kwargs):
            sizes = [tuple(a.shape) for a in (*args, *kwargs.values()) if isinstance(a, torch.Tensor)]
            frames = [f for f in traceback.extract_stack() if "nextgpt_pl" in Path(f.filename).parts]
            caller = f"{Path(frames[-1].filename).name}:{frames[-1].name}" if frames else ""
            print(name, *sizes, caller, file=file, flush=True)
            return function(*args, **kwargs)

        return call

    with path.open("w") as file:
        for name, function in originals.items():
            setattr(dist, name, noting(name, function, file))
        try:
            yield
        finally:
            for name, function in originals.items():
                setattr(dist, name, function)


class Logged(Callback):
    def __init__(self):
        self.steps, self.start = [], {}

    def on_fit_start(self, _trainer, stage):
        """Keep all tensors that training starts with: weights (also frozen), buffers and attributes."""
        if self.start:  # it goes on
            return
        tensors = {**dict(stage.network.named_parameters()), **dict(stage.network.named_buffers())}
        self.start = {name: full_tensor(tensor).clone() for name, tensor in tensors.items()}

    def on_train_batch_end(self, trainer, *_):
        self.steps.append({k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("train/")})


class Watched(ShardedStrategy):
    """Counts the full tensors that are still alive after sharding."""

    whole_weights = 0

    def shard(self, stage):
        before = [weakref.ref(parameter) for parameter in stage.parameters()]
        super().shard(stage)
        gc.collect()
        self.whole_weights = sum(reference() is not None for reference in before)


def _strategy(cell):
    sharded = {"fsdp2": {}, "hsdp": {"replicas": 2}}
    return Watched(**sharded[cell.strategy]) if cell.strategy in sharded else _PLAIN[cell.strategy]


def _fit(cell, models, folder, logged, epochs=1, resumed=None):
    trainer = Trainer(
        accelerator="cpu",
        devices=int(os.environ.get("WORLD_SIZE", "1")),
        strategy=_strategy(cell),
        max_epochs=epochs,
        num_sanity_val_steps=0,
        gradient_clip_val=0.02 if cell.feature == "clipping" else None,
        accumulate_grad_batches=2 if cell.feature == "accumulate" else 1,
        callbacks=[logged, *cells.callbacks(cell)],
        plugins=[AtomicCheckpointIO()],
        use_distributed_sampler=False,
        logger=False,
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    stage = cells.stage(cell, models)
    trainer.fit(stage, cells.Batches(cell), ckpt_path=resumed)
    return stage, trainer


def run(cell, models, out):
    number = int(os.environ.get("RANK", "0"))
    if number and cell.strategy in ("fsdp2", "hsdp"):
        models = models / "blind"  # only rank 0 reads weights
    logged, folder = Logged(), out / f"{cell.name}.run"
    with written_down(out / f"{cell.name}.{number}.calls"):
        stage, trainer = _fit(cell, models, folder, logged)
        if cell.feature == "resumed":
            trainer.save_checkpoint(folder / "half.ckpt")
            stage, trainer = _fit(cell, models, folder, logged, 2, folder / "half.ckpt")
    found = {
        "whole_weights": getattr(trainer.strategy, "whole_weights", 0),
        "start": logged.start,
        "steps": logged.steps,
        "final": {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")},
        "trainables": {name: full_tensor(p) for name, p in stage.trainable().items()},
    }
    if rank() == 0:
        found["adapter"] = load_file(folder / "adapter" / "adapter.safetensors")
        shutil.rmtree(folder)
    torch.save(found, out / f"{cell.name}.{number}.pt")


def main(models, out, seconds, *names):
    known = {cell.name: cell for cell in (*cells.ALONE, *cells.TOGETHER)}
    for name in names:
        print(f"begin {name}", flush=True)
        faulthandler.dump_traceback_later(float(seconds), exit=True)
        run(known[name], Path(models), Path(out))
        faulthandler.cancel_dump_traceback_later()
        print(f"end {name}", flush=True)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # a regular exit would wait for the other ranks
