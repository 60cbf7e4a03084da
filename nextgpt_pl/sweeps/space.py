"""A sweep's YAML in W&B's format, and the commands of its runs."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nextgpt_pl.config.yaml_files import parse_yaml, read_yaml
from nextgpt_pl.errors import UserError, nearest

_METHODS = ("grid", "random", "bayes")
_KEYS = (
    "program",
    "command",
    "method",
    "metric",
    "parameters",
    "name",
    "description",
    "project",
    "entity",
    "run_cap",
    "early_terminate",
)
_PARAMETER_KEYS = ("value", "values", "distribution", "min", "max", "q")
# default command of a W&B agent
_COMMAND = ("${env}", "${interpreter}", "${program}", "${args}")


@dataclass(frozen=True)
class Sweep:
    """A validated sweep.

    Attributes:
        file: the YAML.
        method: ``grid``, ``random`` or ``bayes``.
        command: with W&B's macros.
        parameters: per dotted key, its ``value``, ``values`` or distribution.
        metric: metric that ``bayes`` optimises and that is printed with the progress.
        maximize: whether larger values of the metric are better.
        run_cap: maximum number of runs, if given.
        early_terminate: whether the YAML asks W&B's server to stop runs early.

    """

    file: Path
    method: str
    command: tuple[str, ...]
    parameters: dict[str, dict[str, Any]]
    metric: str | None
    maximize: bool
    run_cap: int | None
    early_terminate: bool

    @property
    def varied(self) -> list[str]:
        """The keys that are not the same in all runs."""
        return [key for key, spec in self.parameters.items() if "value" not in spec]

    def arguments(self, point: Mapping[str, Any], interpreter: Sequence[str]) -> list[str]:
        """The command of one run, as a W&B agent builds it.

        Args:
            point: value per parameter.
            interpreter: value of ``${interpreter}``.

        Raises:
            UserError: the command has a macro that is not supported.

        """
        flags = [f"--{key}={spelled(value)}" for key, value in point.items()]
        macros: dict[str, list[str]] = {"${env}": [], "${interpreter}": list(interpreter), "${args}": flags}
        words: list[str] = []
        for word in self.command:
            if word.startswith("${") and word.endswith("}"):
                if word not in macros:
                    raise UserError(f"{self.file}: command: {word!r} is not supported{nearest(word, macros)}")
                words += macros[word]
            else:
                words.append(word)
        return words


def spelled(value: Any) -> str:
    """A value as text that YAML parses to the same value; Python's ``str`` if that does, as in W&B's agents."""
    text = str(value)
    try:
        same = isinstance(value, str) or parse_yaml(text) == value
    except UserError:
        same = False
    return text if same else json.dumps(value)


def read_sweep(file: Path) -> Sweep:
    """Read and check a sweep's YAML.

    Raises:
        UserError: a key or value is invalid; the message names it and says what is expected.

    """
    config = _mapping(file)
    for key in config:
        if key not in _KEYS:
            raise UserError(f"{file}: {key}: no such key{nearest(str(key), _KEYS)}")
    method = config.get("method")
    if method not in _METHODS:
        raise UserError(f"{file}: method: {method!r}; one of {', '.join(_METHODS)} is expected")
    parameters = config.get("parameters")
    if not isinstance(parameters, dict) or not parameters:
        raise UserError(
            f"{file}: parameters: at least one is expected, such as 'model.lr: {{values: [1.0e-3, 2.0e-3]}}'"
        )
    metric = config.get("metric") or {}
    if method == "bayes" and "name" not in metric:
        raise UserError(f"{file}: metric.name is missing: bayes needs to know what to improve")
    goal = metric.get("goal", "minimize")
    if goal not in ("minimize", "maximize"):
        raise UserError(f"{file}: metric.goal: {goal!r}; minimize or maximize is expected")
    return Sweep(
        file=file,
        method=method,
        command=tuple(str(word) for word in config.get("command") or _program(file, config)),
        # sorted as by W&B, so that a grid has the same order
        parameters={key: _parameter(file, key, parameters[key]) for key in sorted(parameters)},
        metric=metric.get("name"),
        maximize=goal == "maximize",
        run_cap=config.get("run_cap"),
        early_terminate="early_terminate" in config,
    )


def _mapping(file: Path) -> dict[str, Any]:
    config = read_yaml(file)
    if not isinstance(config, dict):
        raise UserError(f"{file} is no sweep: keys such as 'method' and 'parameters' are expected")
    return config


def _program(file: Path, config: Mapping[str, Any]) -> list[str]:
    if "program" not in config:
        raise UserError(f"{file}: command is missing, such as '[${{env}}, ${{interpreter}}, -m, nextgpt_pl, fit, ...]'")
    return [str(config["program"]) if word == "${program}" else word for word in _COMMAND]


def _parameter(file: Path, key: str, spec: Any) -> dict[str, Any]:
    where = f"{file}: parameters.{key}"
    if not isinstance(spec, dict):
        raise UserError(f"{where}: {spec!r}; 'value: ...', 'values: [...]' or a distribution is expected")
    if "parameters" in spec:
        raise UserError(f"{where}: nested parameters are not supported; write their dotted keys, {key}.NAME")
    for name in spec:
        if name not in _PARAMETER_KEYS:
            raise UserError(f"{where}.{name}: not supported{nearest(str(name), _PARAMETER_KEYS)}")
    if "values" in spec and (not isinstance(spec["values"], list) or not spec["values"]):
        raise UserError(f"{where}.values: {spec['values']!r}; a list of at least one value is expected")
    if not {"value", "values"} & set(spec) and not {"min", "max"} <= set(spec):
        raise UserError(f"{where}: value, values, or min and max are expected")
    if "min" in spec and not spec["min"] < spec["max"]:
        raise UserError(f"{where}: min {spec['min']} is not below max {spec['max']}")
    return spec


def grid(sweep: Sweep) -> list[dict[str, Any]]:
    """All points of a grid, in the order in which W&B's server walks it.

    Raises:
        UserError: a parameter has no list of values.

    """
    axes = [_axis(sweep.file, key, spec) for key, spec in sweep.parameters.items()]
    return [dict(zip(sweep.parameters, values, strict=True)) for values in itertools.product(*axes)]


def _axis(file: Path, key: str, spec: Mapping[str, Any]) -> list[Any]:
    if "value" in spec:
        return [spec["value"]]
    if "values" in spec:
        return list(spec["values"])
    low, high, step = spec["min"], spec["max"], spec.get("q")
    if step is None and isinstance(low, int) and isinstance(high, int):
        return list(range(low, high + 1))
    if step is None:
        raise UserError(f"{file}: parameters.{key}: a grid needs values: [...], or a step q between min and max")
    return [low + step * i for i in range(math.ceil((high - low) / step))]
