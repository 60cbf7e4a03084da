import json
import os
import signal

import pytest
import tiny
import torch
from lightning.pytorch.callbacks import Callback

from nextgpt_pl.errors import UserError
from nextgpt_pl.evaluation import Captioning, CaptionManifest, CaptionQuality, JudgedRight, PocketRoute
from nextgpt_pl.evaluation.validation import ValidationTasks
from nextgpt_pl.model import NextGPT
from nextgpt_pl.training.keep import LastCheckpoints


def _trained(tiny_models, folder, callbacks, checkpoints=False):
    stage, data = tiny.stage_and_data("InstructionTuning", tiny_models, batch_size=4, train_size=1)
    often = {"val_check_interval": 2, "check_val_every_n_epoch": None, "limit_val_batches": 1}
    trainer = tiny.quiet_trainer(folder, max_steps=4, callbacks=callbacks, enable_checkpointing=checkpoints, **often)
    trainer.fit(stage, data)
    return stage, trainer


def _tasks():
    told = PocketRoute("image->text", [JudgedRight(), CaptionQuality(only=["CIDEr-D"])], count=2, max_new_tokens=6)
    return [told, PocketRoute("question", [JudgedRight()], count=2, max_new_tokens=6)]


def test_tasks_are_answered_at_each_validation_and_change_nothing_in_training(tiny_models, tmp_path):
    stage, trainer = _trained(tiny_models, tmp_path / "with", [ValidationTasks(_tasks())])
    steps = sorted(path.name for path in (tmp_path / "with" / "validation").iterdir())
    assert steps == ["step_000002", "step_000004"]
    lines = (tmp_path / "with" / "validation" / "step_000004" / "predictions.jsonl").read_text().splitlines()
    assert [json.loads(line)["task"] for line in lines] == ["pocket image->text"] * 2 + ["pocket question"] * 2
    logged = trainer.callback_metrics
    assert 0 <= logged["val/pocket_image->text/all_right"] <= 1
    assert "val/pocket_image->text/CIDEr-D" in logged
    assert "val/pocket_question/right_kinds" in logged
    plain, _ = _trained(tiny_models, tmp_path / "without", [])
    for (name, one), other in zip(stage.trainable().items(), plain.trainable().values(), strict=True):
        assert torch.equal(one, other), name


def test_the_network_of_a_training_is_not_moved(tiny_models, tmp_path, monkeypatch):
    """Its strategy has placed it: moving it would undo sharding and offloading."""
    during = []
    answer = ValidationTasks._answer

    def guarded(self, model, folder, task):
        during.append(task.name)
        return answer(self, model, folder, task)

    class Guard(Callback):
        def on_validation_start(self, trainer, pl_module):
            monkeypatch.setattr(NextGPT, "to", lambda *_: pytest.fail("the network was moved"))

        def on_validation_end(self, trainer, pl_module):
            monkeypatch.undo()
            monkeypatch.setattr(ValidationTasks, "_answer", guarded)

    monkeypatch.setattr(ValidationTasks, "_answer", guarded)
    _trained(tiny_models, tmp_path, [Guard(), ValidationTasks(_tasks())])
    assert len(during) == 4


def test_a_signal_among_the_tasks_is_acted_upon_before_the_next(tiny_models, tmp_path, monkeypatch):
    during = []

    def interrupted(self, model, folder, task):
        during.append(task.name)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(ValidationTasks, "_answer", interrupted)
    with pytest.raises(SystemExit):
        _trained(tiny_models, tmp_path, [ValidationTasks(_tasks()), LastCheckpoints(1, None)], checkpoints=True)
    assert during == ["pocket image->text"]
    saved = torch.load(tmp_path / "checkpoints" / "interrupted.ckpt", weights_only=True)
    validated = saved["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]["current"]
    assert saved["global_step"] == 2
    assert validated["completed"] == 0


def test_a_task_without_end_or_data_is_refused_before_training():
    with pytest.raises(UserError, match="'pocket image->text' needs a count"):
        ValidationTasks([PocketRoute("image->text", [JudgedRight()], count=None)])
    with pytest.raises(UserError, match="two are called 'pocket question'"):
        ValidationTasks([*_tasks(), _tasks()[1]])


def test_a_task_without_its_data_is_refused_before_training(tmp_path):
    task = Captioning("tell", CaptionManifest(tmp_path / "nowhere", "image"), [], "What?", count=2)
    with pytest.raises(UserError, match=r"trainer\.callbacks: task 'tell': root='.*nowhere': no such folder"):
        ValidationTasks([task])


def test_a_task_without_items_is_warned_of(tiny_models, tmp_path):
    (tmp_path / "captions.jsonl").write_text("[]")
    task = Captioning("tell", CaptionManifest(tmp_path, "image"), [], "What?", count=2)
    with pytest.warns(UserWarning, match="validation task 'tell' has no item to score"):
        _trained(tiny_models, tmp_path, [ValidationTasks([task])])
