import diffusers
import pytest
import torch
from diffusers.pipelines.flux.pipeline_flux import calculate_shift

from nextgpt_pl.decoders.noise_levels import flow_levels, noise_levels, target_kind
from nextgpt_pl.errors import UserError


def test_targets_are_the_schedulers():
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler

    assert target_kind(DDIMScheduler()) == "epsilon"
    assert target_kind(DDIMScheduler(prediction_type="v_prediction")) == "v"
    assert target_kind(DDIMScheduler(prediction_type="sample")) == "sample"
    assert target_kind(FlowMatchEulerDiscreteScheduler()) == "flow"
    flow = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    assert target_kind(flow) == "flow"


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_levels_are_logit_normal_before_the_shift(shift):
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    timesteps, alpha, sigma = noise_levels(scheduler, 20000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(timesteps, 1000 * sigma)
    torch.testing.assert_close(alpha + sigma, torch.ones(20000))
    normal = (sigma / alpha / shift).log()  # the shift multiplies the ratio of sigma to alpha
    assert normal.mean().abs() < 0.03
    assert normal.std() == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("kind", ["exponential", "linear"])
@pytest.mark.parametrize("tokens", [64, 1024, 4096])
def test_dynamic_shifts_are_the_schedulers(kind, tokens):
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, time_shift_type=kind)
    uniform = torch.rand(9)
    wanted = scheduler.time_shift(calculate_shift(tokens), 1.0, uniform)
    torch.testing.assert_close(flow_levels(scheduler, uniform, tokens)[2], wanted)


def test_continuous_levels_are_angles():
    scheduler = diffusers.EDMDPMSolverMultistepScheduler(sigma_data=1.0, prediction_type="v_prediction")
    timesteps, alpha, sigma = noise_levels(scheduler, 20000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(alpha.square() + sigma.square(), torch.ones(20000))
    torch.testing.assert_close((4 * timesteps).exp(), sigma / alpha, rtol=1e-4, atol=0)
    assert timesteps.isfinite().all()
    assert torch.atan2(sigma, alpha).mean() == pytest.approx(torch.pi / 4, abs=0.01)


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (diffusers.EDMDPMSolverMultistepScheduler(), "prediction_type='epsilon' and sigma_data=0.5 is not supported"),
        (diffusers.ScoreSdeVeScheduler(), "noise levels of ScoreSdeVeScheduler are not known"),
    ],
)
def test_other_schedulers_are_refused(scheduler, message):
    with pytest.raises(UserError, match=message):
        noise_levels(scheduler, 2, torch.Generator())
