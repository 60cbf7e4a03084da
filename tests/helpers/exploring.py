"""Property-based tests in two sizes: few examples that are always the same, and many new ones in a long run."""

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis.strategies import SearchStrategy

from nextgpt_pl.errors import UserError

LIMIT = 60.0  # seconds of CPU time of one example in a long run
#: multiplies the number of examples of a long run
TIMES = int(os.environ.get("NEXTGPT_EXAMPLES_TIMES", "1"))
_HOURS = 2 * 3600


class _Hang(BaseException):
    """No ``except Exception`` of the tested code takes it."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Fail after so many seconds of CPU time; pytest-timeout uses the timer of wall-clock time."""

    def stop(_number: int, _frame: Any) -> None:
        raise _Hang

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    except _Hang as hang:
        raise AssertionError(f"more than {seconds:g} seconds of CPU time") from hang
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@dataclass
class Explore:
    """Calls a check with examples of strategies, and counts its results.

    Attributes:
        examples: number of examples.
        anew: whether they differ from run to run, and each has a time limit.
        results: number of examples per result of the check.

    """

    examples: int
    anew: bool = False
    results: Counter[str] = field(default_factory=Counter)

    def __call__(self, check: Callable[..., str], **strategies: SearchStrategy[Any]) -> None:
        """Run the check; in a long run, its examples must have more than one result."""
        bounded = settings(
            max_examples=self.examples,
            derandomize=not self.anew,
            deadline=None,
            database=None,
            print_blob=True,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        )

        @bounded
        @given(**strategies)
        def example(**values: Any) -> None:
            note(f"{values!r:.4000}")
            with limited(LIMIT) if self.anew else nullcontext():
                result = check(**values)
            self.results[result] += 1

        example()
        print(f"{sum(self.results.values())} examples: {dict(self.results)}")
        assert len(self.results) > 1 or not self.anew, "the examples are all alike, so they test nothing"


def exploration(few: int, many: int) -> pytest.MarkDecorator:
    """Parametrize a test by ``explore``: ``few`` fixed examples, and ``many`` new ones with the mark ``long``."""
    long = [pytest.mark.long, pytest.mark.timeout(_HOURS)]
    cases = [pytest.param(few, False, id="few"), pytest.param(many * TIMES, True, id="many", marks=long)]
    cases = [pytest.param(Explore(*case.values), id=case.id, marks=case.marks) for case in cases]
    return pytest.mark.parametrize("explore", cases)


def outcome(call: Callable[..., Any], *arguments: Any, names: tuple[str, ...] = ()) -> str:
    """``right``, or ``refused`` by an error of ours that says something; any other exception fails the test.

    Args:
        call: what is called.
        arguments: its arguments.
        names: texts of which the error has at least one.

    """
    try:
        call(*arguments)
    except UserError as error:
        said = str(error)
        assert said.strip(), "an error without a message"
        assert not names or any(name in said for name in names), f"{names} not named in: {said}"
        return "refused"
    return "right"
