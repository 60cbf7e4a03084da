import pytest
import torch

from nextgpt_pl.utils import stopwatch
from nextgpt_pl.utils.stopwatch import Stopwatch


class Clock:
    """The host's and the device's time, which do not depend on one another."""

    def __init__(self):
        self.host = self.device = 0.0
        self.waited = []

    def perf_counter(self):
        return self.host

    def event(self, enable_timing):
        assert enable_timing
        return Event(self)


class Event:
    def __init__(self, clock):
        self.clock, self.at = clock, None

    def record(self):
        self.at = self.clock.device

    def synchronize(self):
        self.clock.waited.append(self.at)

    def elapsed_time(self, end):
        return 1000 * (end.at - self.at)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(stopwatch, "time", clock)
    monkeypatch.setattr(torch.cuda, "Event", clock.event)
    return clock


def test_sections_are_summed_by_name_until_they_are_taken(clock):
    watch = Stopwatch()
    watch.start()
    for name, seconds in (("encoding", 2.0), ("drawing", 1.0), ("encoding", 3.0)):
        with watch(name, "cpu"):
            clock.host += seconds
        clock.host += 10
    assert watch.take() == {"encoding": 5.0, "drawing": 1.0}
    assert watch.take() == {}


def test_on_a_gpu_its_own_time_counts_and_only_taking_waits_once(clock):
    watch = Stopwatch()
    watch.start()
    for seconds in (2.0, 3.0):
        with watch("encoding", torch.device("cuda", 0)):
            clock.device += seconds
        clock.device += 10
    assert not clock.waited
    assert watch.take() == {"encoding": 5.0}
    assert clock.waited == [15.0]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_nothing_is_kept_before_the_start_and_after_the_end(clock, device):
    watch = Stopwatch()
    with watch("encoding", device):
        clock.host = clock.device = 1.0
    assert watch.take() == {}
    watch.start()
    with watch("encoding", device):
        clock.host = clock.device = 2.0
    watch.stop()
    assert watch.take() == {}
    assert not clock.waited
