import signal

import pytest
import torch
from groups import groups_of
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.demos.boring_classes import BoringModel

from nextgpt_pl.datamodules.samplers import MixedSampler, ResumableLoader
from nextgpt_pl.training.interrupts import INTERRUPTED, save_interrupted
from nextgpt_pl.training.keep import BestCheckpoint, LastCheckpoints
from nextgpt_pl.training.loops import ResumableFitLoop


class _Model(BoringModel):
    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self.step(batch))


class _Noted(Callback):
    """Notes validations and ends; ends the process in the validation after a step, with or without a checkpoint."""

    def __init__(self, ends_at=None, saves=False):
        self.ends_at, self.saves, self.found = ends_at, saves, []

    def on_validation_batch_end(self, trainer, *_):
        self.found.append(("batch", trainer.global_step))
        if trainer.global_step == self.ends_at:
            if self.saves:
                save_interrupted(trainer, signal.SIGINT)
            raise SystemExit(1)

    def on_train_end(self, trainer, _stage):
        self.found.append(("end", trainer.global_step))


def _fit(folder, noted, resumed=None, every=None, steps=4):
    best = BestCheckpoint(folder / "checkpoints", filename="best_{step:06d}", monitor="val/loss", save_top_k=1)
    best.auto_insert_metric_name = False
    trainer = Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        max_steps=steps,
        val_check_interval=2,
        limit_val_batches=2,
        num_sanity_val_steps=0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[noted, best, LastCheckpoints(2, every)],
    )
    trainer.fit_loop = ResumableFitLoop(trainer)
    torch.manual_seed(0)
    path = None if resumed is None else folder / "checkpoints" / resumed
    trainer.fit(_Model(), ckpt_path=path, weights_only=True)
    return noted.found


def _names(folder):
    return sorted(path.name for path in (folder / "checkpoints").iterdir() if path.name.startswith(("step", "inter")))


@pytest.mark.parametrize("step", [2, 4])
def test_an_interrupted_validation_is_repeated_also_after_the_last_step(step, tmp_path):
    with pytest.raises(SystemExit):
        _fit(tmp_path, _Noted(ends_at=step, saves=True))
    found = _fit(tmp_path, _Noted(), INTERRUPTED)
    assert found == [("batch", n) for n in range(step, 5, 2) for _ in range(2)] + [("end", 4)]
    assert _names(tmp_path) == ["step_000002.ckpt", "step_000004.ckpt"]
    _fit(tmp_path / "whole", _Noted())
    files = [folder / "checkpoints" / "step_000004.ckpt" for folder in (tmp_path, tmp_path / "whole")]
    progress = [torch.load(file, weights_only=True)["loops"]["fit_loop"] for file in files]
    assert progress[0] == progress[1]


def test_a_run_that_has_done_all_steps_is_ended_as_others(tmp_path):
    whole = [*[("batch", 2)] * 2, *[("batch", 4)] * 2, ("end", 4)]
    assert _fit(tmp_path, _Noted()) == whole
    assert _fit(tmp_path, _Noted(), "step_000004.ckpt") == [("end", 4)]


def test_no_checkpoint_of_a_step_is_saved_before_its_validation(tmp_path):
    with pytest.raises(SystemExit):
        _fit(tmp_path, _Noted(ends_at=2), every=1)
    assert _names(tmp_path) == ["step_000001.ckpt"]
    found = _fit(tmp_path, _Noted(), "step_000001.ckpt", every=1)
    assert found == [("batch", 2), ("batch", 2), ("batch", 4), ("batch", 4), ("end", 4)]


def test_a_resumed_run_does_the_rest_of_saving_its_checkpoints(tmp_path):
    _fit(tmp_path, _Noted())
    folder = tmp_path / "checkpoints"
    best = folder / "best_000004.ckpt"
    newest = folder / "step_000004.ckpt"
    # as if the process had been killed right after the best checkpoint of the last validation
    if not best.is_file():
        next(iter(folder.glob("best_*"))).unlink()
        newest.rename(best)
    newest.unlink(missing_ok=True)
    (folder / "last.ckpt").unlink()
    (folder / "last.ckpt").symlink_to("step_000002.ckpt")
    (folder / "step_000001.ckpt").touch()
    _fit(tmp_path, _Noted(), best.name)
    assert _names(tmp_path) == ["step_000002.ckpt", "step_000004.ckpt"]
    assert (folder / "last.ckpt").readlink().name == "step_000004.ckpt"


class _Told(BoringModel):
    """Notes the step, the epoch and the items of each batch."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def training_step(self, batch, _):
        self.seen.append((self.global_step, self.current_epoch, batch.tolist()))
        return self.layer.weight.sum()


class _EachStep(Callback):
    """Saves after each step, as an interrupt does."""

    def on_train_batch_end(self, trainer, *_):
        if not trainer.fit_loop._should_accumulate():
            trainer.save_checkpoint(f"{trainer.default_root_dir}/{trainer.global_step}.ckpt")


def _seen(folder, callback, options, resumed=None):
    sampler = MixedSampler(groups_of(["a"] * 10), 2)
    limit = options.get("limit_train_batches", 1.0)
    loader = ResumableLoader(list(range(10)), batch_sampler=sampler, collate_fn=torch.tensor, limit=limit)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(accelerator="cpu", default_root_dir=folder, max_steps=9, callbacks=[callback], **quiet, **options)
    trainer.fit_loop, model = ResumableFitLoop(trainer), _Told()
    trainer.fit(model, loader, model.val_dataloader(), ckpt_path=resumed, weights_only=True)
    return model.seen


@pytest.mark.parametrize("limits", [{}, {"limit_train_batches": 4}])
@pytest.mark.parametrize("accumulated", [1, 2])
@pytest.mark.parametrize("validation", [0, 2])
@pytest.mark.parametrize("callback", [_EachStep, lambda: LastCheckpoints(9, 1)], ids=["interrupts", "checkpoints"])
def test_a_run_that_is_resumed_at_any_step_has_the_batches_of_each_epoch(
    tmp_path, callback, validation, accumulated, limits
):
    options = {"accumulate_grad_batches": accumulated, "limit_val_batches": validation, **limits}
    whole = _seen(tmp_path, callback(), options)
    resumed_from = set()
    # those of resumed runs too
    for path in (p for p in tmp_path.rglob("*.ckpt") if p.stem.removeprefix("step_").isdecimal()):
        step = int(path.stem.removeprefix("step_"))
        resumed_from.add(step)
        found = _seen(tmp_path / "other", callback(), options, path)
        assert found == [batch for batch in whole if batch[0] >= step], path.name
    assert resumed_from == set(range(1, 10))
