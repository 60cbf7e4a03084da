import pytest
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel

from nextgpt_pl.errors import UserError
from nextgpt_pl.training.usage_errors import check_seed, check_trainer, trainer_errors


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("accelerator", "gpu"),
        ("accelerator", "tpu"),
        ("accelerator", "nope"),
        ("strategy", "nope"),
        ("devices", 0),
        ("max_time", "abc"),
        ("limit_val_batches", 1.5),
        ("limit_train_batches", -1),
        ("val_check_interval", -1),
        ("max_epochs", -5),
        ("fast_dev_run", -1),
        ("profiler", "nope"),
        ("gradient_clip_algorithm", "nope"),
    ],
)
def test_what_lightning_refuses_names_the_setting(key, value):
    settings = {"logger": False, "enable_checkpointing": False, "max_steps": 3, key: value}
    with pytest.raises(UserError) as caught, trainer_errors(settings, making=True):
        Trainer(**settings)
    message = str(caught.value)
    assert message.startswith(f"trainer.{key}={value!r}: "), message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("accumulate_grad_batches", 0),
        ("num_nodes", 0),
        ("val_check_interval", 0),
        ("val_check_interval", float("nan")),
        ("check_val_every_n_epoch", 0),
        ("gradient_clip_val", -1.0),
        ("gradient_clip_val", float("nan")),
        ("log_every_n_steps", -1),
        ("min_steps", -1),
        ("max_steps", -2),
    ],
)
def test_what_lightning_takes_and_cannot_use(key, value):
    with pytest.raises(UserError, match=f"trainer.{key}={value}: "):
        check_trainer({"max_steps": -1, key: value})


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_are_those_of_numpy(seed):
    with pytest.raises(UserError, match=f"seed_everything={seed}: expected 0 to 4294967295"):
        check_seed(seed)
    for right in (0, 2**32 - 1, True, False):
        check_seed(right)


def test_what_is_found_in_training_names_the_setting(tmp_path):
    settings = {"val_check_interval": 1000, "logger": False, "enable_checkpointing": False, "max_steps": 1}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "default_root_dir": tmp_path}
    trainer = Trainer(**settings, **quiet, accelerator="cpu")
    message = r"trainer\.val_check_interval=1000: .*number of the training batches"
    with pytest.raises(UserError, match=message), trainer_errors(settings):
        trainer.fit(BoringModel())


def test_other_errors_keep_their_traceback():
    """A bug of ours is never mistaken for a setting."""
    settings = {"val_check_interval": 1000, "max_steps": 1}
    for error in (ValueError("val_check_interval"), MisconfigurationException("val_check_interval"), KeyError("x")):
        with pytest.raises(type(error)) as caught, trainer_errors(settings, making=True):
            raise error
        assert not isinstance(caught.value, UserError)
    with pytest.raises(MisconfigurationException), trainer_errors(settings):
        Trainer(logger=False, max_epochs=-5)
