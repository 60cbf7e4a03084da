"""Random and Bayesian search over a sweep's parameters.

Optuna proposes the parameters, since W&B's offline package ``sweeps`` requires numpy below 2. Bayesian search uses a
tree-structured Parzen estimator; W&B's server uses a Gaussian process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nextgpt_pl.errors import UserError, nearest
from nextgpt_pl.sweeps.space import Sweep

# parameters and metric of a run; None while it is running, NaN if it failed
Seen = tuple[Mapping[str, Any], float | None]

_DISTRIBUTIONS = ("constant", "categorical", "int_uniform", "uniform", "q_uniform", "log_uniform_values")


def propose(sweep: Sweep, seen: Sequence[Seen], index: int) -> dict[str, Any]:
    """Parameters of run ``index``; deterministic for the same seen runs.

    Args:
        sweep: ``random`` or ``bayes``.
        seen: the runs so far.
        index: index of the run, which is also the seed.

    Raises:
        UserError: Optuna is not installed, or a distribution is not supported.

    """
    try:
        import optuna
    except ImportError as error:
        raise UserError(f"method: {sweep.method} needs Optuna: pip install 'optuna>=4.0'") from error

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = {key: _distribution(sweep, key) for key in sweep.varied}
    samplers = optuna.samplers
    sampler: Any = samplers.RandomSampler(seed=index)
    if sweep.method == "bayes":
        # running trials count as bad, so that parallel ones explore other regions
        sampler = samplers.TPESampler(seed=index, constant_liar=True, n_startup_trials=min(10, 2 + len(space)))
    study = optuna.create_study(sampler=sampler, direction="maximize" if sweep.maximize else "minimize")
    states = optuna.trial.TrialState
    for point, value in seen:
        failed = value is not None and value != value  # noqa: PLR0124 (NaN)
        state = states.RUNNING if value is None else states.FAIL if failed else states.COMPLETE
        params = {key: _inner(sweep, key, point[key]) for key in space}
        final_value = value if state is states.COMPLETE else None
        study.add_trial(optuna.trial.create_trial(state=state, value=final_value, params=params, distributions=space))
    proposed = study.ask(space).params
    constants = {key: spec["value"] for key, spec in sweep.parameters.items() if "value" in spec}
    return {key: constants[key] if key in constants else _outer(sweep, key, proposed[key]) for key in sweep.parameters}


def _distribution(sweep: Sweep, key: str) -> Any:
    """Optuna's distribution of a W&B parameter; choices are list indices, since values may be lists or mappings."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    spec = sweep.parameters[key]
    if "values" in spec:
        return CategoricalDistribution(range(len(spec["values"])))
    low, high, step = spec["min"], spec["max"], spec.get("q")
    integers = isinstance(low, int) and isinstance(high, int)
    name = spec.get("distribution", "int_uniform" if integers else "uniform")
    if name not in _DISTRIBUTIONS:
        raise UserError(
            f"{sweep.file}: parameters.{key}.distribution: {name!r} is not supported{nearest(name, _DISTRIBUTIONS)}"
        )
    if name == "int_uniform":
        return IntDistribution(int(low), int(high))
    if name == "q_uniform":
        return FloatDistribution(float(low), float(high), step=float(1.0 if step is None else step))
    return FloatDistribution(float(low), float(high), log=name == "log_uniform_values")


def _inner(sweep: Sweep, key: str, value: Any) -> Any:
    spec = sweep.parameters[key]
    return spec["values"].index(value) if "values" in spec else value


def _outer(sweep: Sweep, key: str, proposed: Any) -> Any:
    spec = sweep.parameters[key]
    return spec["values"][proposed] if "values" in spec else proposed
