"""A step that is not finite moves no weight; an interruption loses no gradient."""

import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import tiny
import torch
from lightning.pytorch.callbacks import Callback

from nextgpt_pl.adapter import load_adapter
from nextgpt_pl.errors import UserError
from nextgpt_pl.training.checkpoint_io import AtomicCheckpointIO, newest
from nextgpt_pl.training.keep import LastCheckpoints

HELPER = Path(__file__).parent.parent / "helpers" / "poisoned.py"


class Poison(Callback):
    """Makes the loss, or the gradients alone, of some batches not finite."""

    def __init__(self, batches, kind="loss"):
        self.batches, self.kind = set(batches), kind

    def on_train_start(self, trainer, pl_module):
        step = pl_module.model_step

        def poisoned(batch, split):
            loss = step(batch, split)
            if split != "train" or trainer.fit_loop.epoch_loop.total_batch_idx not in self.batches:
                return loss
            # the root of nothing is finite, its slope is not
            return loss * float("nan") if self.kind == "loss" else loss + (loss - loss.detach()).sqrt()

        pl_module.model_step = poisoned


def _fit(folder, models, *callbacks, steps=4, options=None, data=None, resume=None, **trainer):
    stage, module = tiny.stage_and_data("DecoderAlignment", models, 2, **(data or {}))
    for name, value in (options or {}).items():
        setattr(stage.step_agreement, name, value)
    trainer = tiny.quiet_trainer(
        folder,
        **{"max_steps": steps, "limit_val_batches": 0, "enable_checkpointing": True, **trainer},
        callbacks=[LastCheckpoints(keep=9, every=1), *callbacks],
        plugins=[AtomicCheckpointIO()],
    )
    trainer.fit(stage, module, ckpt_path=resume)
    return stage


def _weights(stage):
    return {name: p.detach().clone() for name, p in stage.trainable().items()}


@pytest.mark.parametrize(
    ("kind", "precision"), [("loss", "32-true"), ("gradient", "32-true"), ("gradient", "bf16-mixed")]
)
def test_a_step_that_is_not_finite_stops_the_run_and_names_the_items(kind, precision, tiny_models, tmp_path):
    seen = {}

    class Look(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            seen[batch_idx] = list(batch.keys), _weights(pl_module), pl_module

    with pytest.raises(UserError, match="optimizer step 3: not finite: rank 0") as caught:
        _fit(tmp_path, tiny_models, Poison([2], kind), Look(), gradient_clip_val=1.0, precision=precision)
    keys, before, stage = seen[2]
    assert all(key in str(caught.value) for key in keys)
    assert "step_000002.ckpt (step 2)" in str(caught.value)
    assert ("loss nan" if kind == "loss" else "gradient of network.") in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in _weights(stage).items())
    assert newest(tmp_path / "checkpoints")[1] == 2
    assert not (tmp_path / "adapter").exists()


def test_all_batches_of_an_accumulated_step_are_named(tiny_models, tmp_path):
    with pytest.raises(UserError, match="optimizer step 1: not finite: rank 0: loss nan, items ") as caught:
        _fit(tmp_path, tiny_models, Poison([0]), accumulate_grad_batches=2)
    assert str(caught.value).count("items") == 2  # those of the poisoned batch, and the advice
    assert "No checkpoint was written before" in str(caught.value)


@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_steps_can_be_skipped_and_are_counted(kind, tiny_models, tmp_path):
    states = []

    class Look(Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            moments = [v.clone() for s in trainer.optimizers[0].state.values() for v in s.values()]
            states.append((_weights(pl_module), moments, trainer.callback_metrics.get("train/steps_skipped")))

    stage = _fit(tmp_path, tiny_models, Poison([1], kind), Look(), options={"on_nonfinite": "skip"})
    assert all(torch.equal(states[1][0][name], value) for name, value in states[0][0].items())
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(states[1][1], states[0][1], strict=True))
    assert any(not torch.equal(states[2][0][name], value) for name, value in states[1][0].items())
    assert float(states[1][2]) == stage.step_agreement.skipped == 1
    assert stage.step_agreement.skipped_in_a_row == 0
    assert all(value.isfinite().all() for value in _weights(stage).values())
    load_adapter(tmp_path / "adapter", stage.network)


def test_skipping_gives_up(tiny_models, tmp_path):
    with pytest.raises(UserError, match=r"optimizer step 4: not finite \(3 steps in a row\)"):
        _fit(
            tmp_path,
            tiny_models,
            Poison([1, 2, 3]),
            options={"on_nonfinite": "skip", "give_up_after": 3},
            steps=9,
        )


def test_the_policy_is_checked(tiny_models):
    from nextgpt_pl.stages import DecoderAlignment

    with pytest.raises(UserError, match=r"model\.on_nonfinite='ignore': expected 'raise' or 'skip'"):
        DecoderAlignment(tiny.network(tiny_models), on_nonfinite="ignore")
    with pytest.raises(UserError, match=r"model\.give_up_after=0"):
        DecoderAlignment(tiny.network(tiny_models), give_up_after=0)


def test_no_checkpoint_holds_weights_or_moments_that_are_not_finite(tiny_models, tmp_path):
    class Break(Callback):
        def __init__(self, what):
            self.what = what

        def on_train_batch_end(self, trainer, pl_module, *_):
            if trainer.global_step == 2:
                parameter = next(iter(pl_module.trainable().values()))
                state = trainer.optimizers[0].state[parameter]
                (parameter.data if self.what == "weights" else state["exp_avg_sq"]).view(-1)[0] = float("inf")

    for what, named in (("weights", "state_dict.network."), ("moments", r"optimizer_states.0.state.0.exp_avg_sq")):
        with pytest.raises(UserError, match="no checkpoint written: weights that are not finite") as caught:
            _fit(tmp_path / what, tiny_models, Break(what), LastCheckpoints(keep=9, every=1))
        assert named in str(caught.value)
        assert "step_000001.ckpt (step 1)" in str(caught.value)
        names = [path.name for path in (tmp_path / what / "checkpoints").iterdir()]
        assert sorted(names) == ["last.ckpt", "step_000001.ckpt"]


def test_a_validation_loss_that_is_not_finite_chooses_no_checkpoint(tiny_models, tmp_path):
    class PoisonValidation(Callback):
        def on_validation_start(self, trainer, pl_module):
            if not trainer.sanity_checking:
                next(pl_module.network.output_projections.parameters()).data.fill_(float("nan"))

    with pytest.raises(UserError, match=r"validation after step 2: val/loss is nan\. The last good checkpoint"):
        _fit(
            tmp_path,
            tiny_models,
            PoisonValidation(),
            limit_val_batches=1,
            val_check_interval=2,
            check_val_every_n_epoch=None,
        )


class Stop(Callback):
    """Sends the process a signal at a batch of the training or of a validation."""

    def __init__(self, batch=None, number=signal.SIGTERM, val_at=None):
        self.batch, self.number, self.val_at = batch, number, val_at

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.fit_loop.epoch_loop.total_batch_idx == self.batch:
            os.kill(os.getpid(), self.number)

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        if not trainer.sanity_checking and (trainer.global_step, batch_idx) == self.val_at:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_an_interruption_among_accumulated_batches_waits_for_the_optimizer_step(number, tiny_models, tmp_path, capfd):
    options = {"accumulate_grad_batches": 2, "steps": 4, "gradient_clip_val": 1.0}
    whole = _weights(_fit(tmp_path / "whole", tiny_models, **options))
    # processes in the background ignore SIGINT and SIGHUP
    outer = signal.signal(number, signal.default_int_handler)
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as caught:  # batch 2 is the first of two
        _fit(tmp_path / "cut", tiny_models, Stop(2, number), **options)
    assert caught.value.code == 128 + number
    assert signal.getsignal(number) is before
    signal.signal(number, outer)
    path, step = newest(tmp_path / "cut" / "checkpoints")
    assert step == 2
    assert "stopping after this optimizer step" in capfd.readouterr().err
    assert (tmp_path / "cut" / "requeue").is_file() == (number in (signal.SIGTERM, signal.SIGUSR1))
    parts = _weights(_fit(tmp_path / "cut", tiny_models, resume=path, **options))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(parts[name], value) for name, value in whole.items())
    assert not (tmp_path / "cut" / "requeue").exists()


@pytest.mark.parametrize("batch", [0, 1])
def test_an_interrupted_validation_is_done_again_as_a_whole(batch, tiny_models, tmp_path):
    class Losses(Callback):
        def __init__(self):
            self.found = {}

        def on_validation_end(self, trainer, *_):
            self.found[trainer.global_step] = float(trainer.callback_metrics["val/loss"])

    options = {"val_check_interval": 2, "check_val_every_n_epoch": None, "limit_val_batches": 2, "steps": 6}
    alone, cut, resumed = Losses(), Losses(), Losses()
    whole = _weights(_fit(tmp_path / "whole", tiny_models, alone, num_sanity_val_steps=0, **options))
    with pytest.raises(SystemExit):
        _fit(tmp_path / "cut", tiny_models, cut, Stop(val_at=(4, batch)), num_sanity_val_steps=0, **options)
    path = tmp_path / "cut" / "checkpoints" / "interrupted.ckpt"
    stage = _fit(tmp_path / "cut", tiny_models, resumed, num_sanity_val_steps=0, resume=path, **options)
    assert alone.found.keys() == {2, 4, 6}
    assert cut.found == {2: alone.found[2]}
    assert resumed.found == {4: alone.found[4], 6: alone.found[6]}
    assert all(torch.equal(_weights(stage)[name], value) for name, value in whole.items())


@pytest.mark.slow
def test_processes_agree_on_steps_that_are_not_finite(tiny_models, tmp_path):
    """The second of two has them; both skip the same steps, and both stop."""
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])
    runs = [
        {"strategy": strategy, "kind": kind, "policy": policy, "out": str(tmp_path / f"{strategy}-{kind}-{policy}")}
        for strategy in ("ddp", "sharded")
        for kind in ("loss", "gradient")
        for policy in ("raise", "skip")
    ]
    command = [sys.executable, str(HELPER), str(tiny_models), json.dumps(runs)]
    processes = []
    for rank in range(2):
        environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
        environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "x"}
        environment |= {"LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        processes.append(subprocess.Popen(command, env=environment, **pipes))
    try:
        outputs = [process.communicate(timeout=600)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(o[-3000:] for o in outputs)
    for run in runs:
        one, two = (torch.load(f"{run['out']}/{rank}.pt", weights_only=True) for rank in range(2))
        name = run["out"]
        assert one["message"] == two["message"], name
        assert one["skipped"] == two["skipped"] == (1 if run["policy"] == "skip" else 0), name
        assert one["steps"] == two["steps"] == (4 if run["policy"] == "skip" else 2), name
        assert all(torch.equal(two["weights"][k], v) for k, v in one["weights"].items()), name
        assert all(v.isfinite().all() for v in one["weights"].values()), name
        if run["policy"] == "raise":
            assert "rank 1: " in one["message"], name
            assert all(key in one["message"] for key in two["keys"]), name


def _half_precision():
    from lightning.pytorch.plugins.precision import MixedPrecision

    # Lightning takes no 16-mixed on a CPU by its name
    return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**10))


def _fit_scaled(folder, models, poison, steps=4, **policy):
    stage, data = tiny.stage_and_data("DecoderAlignment", models, 2)
    for name, value in policy.items():
        setattr(stage.step_agreement, name, value)
    weights = []

    class Look(Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            weights.append(_weights(pl_module))

    trainer = tiny.quiet_trainer(
        folder, max_steps=steps, limit_val_batches=0, callbacks=[poison, Look()], plugins=[_half_precision()]
    )
    trainer.fit(stage, data)
    return stage, weights


class NoSlope(Poison):
    """Makes some losses not finite by what has no gradient, such as the text's loss of a frozen LLM."""

    def on_train_start(self, trainer, pl_module):
        step = pl_module.model_step
        at = trainer.fit_loop.epoch_loop
        pl_module.model_step = lambda batch, split: (
            step(batch, split) + (float("nan") if at.total_batch_idx in self.batches else 0.0)
        )


def test_with_a_gradient_scaler_a_skipped_step_moves_nothing_though_gradients_are_finite(tiny_models, tmp_path):
    stage, weights = _fit_scaled(tmp_path, tiny_models, NoSlope([2]), on_nonfinite="skip")
    assert stage.step_agreement.skipped == 1
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[2].items())
    assert any(not torch.equal(value, weights[2][name]) for name, value in weights[3].items())


def test_scaled_gradients_may_overflow_but_not_for_ever(tiny_models, tmp_path, monkeypatch):
    monkeypatch.setattr("nextgpt_pl.stages.agreement._OVERFLOWS", 3)
    stage, _ = _fit_scaled(tmp_path, tiny_models, Poison([1, 2], "gradient"))
    assert stage.step_agreement.skipped == 0
    with pytest.raises(UserError, match=r"not finite \(3 steps in a row\): rank 0: gradient of network\."):
        _fit_scaled(tmp_path, tiny_models, Poison([1, 2, 3], "gradient"))


def test_validations_between_two_optimizer_steps_are_warned_of(tiny_models, tmp_path):
    def said(every, accumulated):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            options = {"val_check_interval": every, "accumulate_grad_batches": accumulated, "limit_val_batches": 1}
            _fit(tmp_path / f"{every}_{accumulated}", tiny_models, steps=1, num_sanity_val_steps=0, **options)
        return [str(w.message) for w in caught if "fall between optimizer steps" in str(w.message)]

    (message,) = said(3, 2)
    assert message.startswith("validations every 3 batches fall between optimizer steps of 2 batches")
    assert not said(4, 2)
    assert not said(1.0, 5)  # at the end of the epoch
