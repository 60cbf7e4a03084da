"""Precisions of the trainer and of frozen parts; tests/paper/test_precision.py compares whole stages."""

from pathlib import Path

import pytest
import tiny
import torch

from nextgpt_pl.__main__ import main
from nextgpt_pl.errors import UserError
from nextgpt_pl.utils.precision import check_trainer_precision, compute_dtype, own_precision

EXPERIMENT = Path(__file__).parent.parent.parent / "experiments" / "dec_align.yaml"
REFUSED = ["bf16-true", "16-true", "64-true", "transformer-engine"]


@pytest.fixture
def _default_products():
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("verb", ["fit", "validate", "cache"])
def test_every_verb_refuses_alike_and_leaves_no_folder(verb, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["--trainer.precision=bf16-true", f"--model.network.cache.folder={tmp_path / 'cache'}"]
    assert main([verb, "-c", str(EXPERIMENT), *arguments]) == 2
    message = capsys.readouterr().err
    assert "trainer.precision=bf16-true" in message
    assert "bf16-mixed" in message
    assert "Traceback" not in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", ["fit", "validate", "test", "predict"])
@pytest.mark.parametrize("precision", ["bf16-true", "64-true"])
def test_a_trainer_of_ones_own_is_refused_too(verb, precision, tiny_models, tmp_path):
    stage, data = tiny.stage_and_data("DecoderAlignment", tiny_models, 4)
    trainer = tiny.quiet_trainer(tmp_path, precision=precision)
    with pytest.raises(UserError, match=f"trainer.precision={precision}"):
        getattr(trainer, verb)(stage, datamodule=data)


@pytest.mark.parametrize("precision", [None, 32, "32", "32-true", "bf16", "bf16-mixed", 16, "16-mixed"])
def test_precisions_that_work(precision):
    check_trainer_precision(precision)


@pytest.mark.parametrize("precision", REFUSED)
def test_precisions_that_do_not(precision):
    with pytest.raises(UserError, match=f"precision={precision}"):
        check_trainer_precision(precision)


def test_autocast_is_off_inside_and_on_again_afterwards():
    layer = torch.nn.Linear(3, 3)

    @own_precision()
    def frozen():
        return layer(torch.ones(2, 3))

    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.ones(2, 3)).dtype is torch.bfloat16
        assert frozen().dtype is torch.float32
        with own_precision():
            assert layer(torch.ones(2, 3)).dtype is torch.float32
        assert layer(torch.ones(2, 3)).dtype is torch.bfloat16
    assert torch.equal(frozen(), layer(torch.ones(2, 3)))


def test_keys_name_what_products_are_computed_in(_default_products):
    torch.set_float32_matmul_precision("highest")
    assert compute_dtype(torch.float32) == compute_dtype("float32") == "float32"
    torch.set_float32_matmul_precision("high")
    assert compute_dtype("float32") == "float32, high matmul precision"
    assert compute_dtype(torch.bfloat16) == "bfloat16"


def test_the_run_sets_the_precision_of_products(tmp_path, monkeypatch, _default_products):
    from nextgpt_pl.training.cli import build

    monkeypatch.chdir(tmp_path)
    build(["-c", str(EXPERIMENT), "--run.float32_matmul_precision=high"])
    assert torch.get_float32_matmul_precision() == "high"
    build(["-c", str(EXPERIMENT)])
    assert torch.get_float32_matmul_precision() == "highest"
