import pytest
import torch

from nextgpt_pl.errors import UserError
from nextgpt_pl.stages.optimization import Optimization, check_restored


def _stepped():
    """An optimizer with a state, as a checkpoint has restored it, and its parameter."""
    parameter = torch.nn.Parameter(torch.ones(3, 2))
    optimization = Optimization(1e-3, 0.0, (0.9, 0.95), 0.0, "constant_with_warmup")
    optimizer = optimization.configure([{"params": [parameter]}], steps=2)["optimizer"]
    parameter.grad = torch.ones(3, 2)
    optimizer.step()
    return optimizer, parameter


def test_a_state_that_fits_is_accepted():
    optimizer, _ = _stepped()
    check_restored(optimizer)
    optimizer.state.clear()
    check_restored(optimizer)


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: state.pop("exp_avg"),
        lambda state: state.update(exp_avg_sq=torch.ones(6)),
        lambda state: state.update(step=torch.ones(1, 1)),
    ],
)
def test_a_state_of_other_parameters_is_refused(damage):
    optimizer, parameter = _stepped()
    damage(optimizer.state[parameter])
    with pytest.raises(UserError, match="the checkpoint's optimizer is damaged: a state has other entries"):
        check_restored(optimizer)


@pytest.mark.parametrize(("key", "value"), [("lr", None), ("eps", float("nan")), ("betas", (0.9, "x"))])
def test_settings_that_are_no_numbers_are_refused(key, value):
    optimizer, _ = _stepped()
    optimizer.param_groups[0][key] = value
    with pytest.raises(UserError, match="the checkpoint's optimizer is damaged: finite lr, eps, weight_decay, betas"):
        check_restored(optimizer)
