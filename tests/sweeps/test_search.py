import pytest

from nextgpt_pl.errors import UserError
from nextgpt_pl.sweeps.search import propose
from nextgpt_pl.sweeps.space import read_sweep

pytest.importorskip("optuna")
NAN = float("nan")


def _sweep(write_sweep, spec, method="bayes", goal="minimize"):
    return read_sweep(write_sweep(parameters=spec, method=method, metric={"name": "m", "goal": goal}))


@pytest.mark.parametrize(("goal", "sign"), [("minimize", 1.0), ("maximize", -1.0)])
def test_bayes_comes_nearer_than_chance(goal, sign, write_sweep):
    sweep = _sweep(write_sweep, {"x": {"min": -20.0, "max": 20.0}}, goal=goal)
    seen = []
    for index in range(40):
        point = propose(sweep, seen, index)
        seen.append((point, sign * (point["x"] - 3) ** 2))
    # uniform draws have a mean of 142
    assert sum(abs(value) for _, value in seen[-15:]) / 15 < 50


def test_runs_that_failed_or_go_on_are_borne(write_sweep):
    sweep = _sweep(write_sweep, {"x": {"min": 1, "max": 4}, "k": {"values": [{"a": 1}, {"a": 2}]}, "c": {"value": "v"}})
    seen = [({"x": 1, "k": {"a": 1}, "c": "v"}, value) for value in (NAN, None, 0.5, 0.7, 0.2, 0.1)]
    point = propose(sweep, seen, 6)
    assert point["x"] in (1, 2, 3, 4)
    assert point["k"] in ({"a": 1}, {"a": 2})
    assert point["c"] == "v"
    assert list(point) == ["c", "k", "x"]


@pytest.mark.parametrize(
    ("spec", "fits"),
    [
        ({"min": 0.001, "max": 10.0, "distribution": "log_uniform_values"}, lambda x: 0.001 <= x <= 10),
        ({"min": 0.0, "max": 1.0, "q": 0.25, "distribution": "q_uniform"}, lambda x: x in (0, 0.25, 0.5, 0.75, 1)),
        ({"min": 3, "max": 5}, lambda x: x in (3, 4, 5)),
        ({"min": 3, "max": 5.5}, lambda x: isinstance(x, float) and 3 <= x <= 5.5),
    ],
)
def test_distributions(spec, fits, write_sweep):
    sweep = _sweep(write_sweep, {"x": spec}, method="random")
    drawn = [propose(sweep, [], index)["x"] for index in range(20)]
    assert all(map(fits, drawn))
    assert len(set(drawn)) > 1


def test_an_unknown_distribution_is_said(write_sweep):
    spec = {"x": {"min": 0.0, "max": 1.0, "distribution": "q_unifrom"}}
    with pytest.raises(UserError, match=r"'q_unifrom' is not supported; did you mean 'q_uniform'\?"):
        propose(_sweep(write_sweep, spec, method="random"), [], 0)
