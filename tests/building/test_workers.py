import threading

import pytest

from nextgpt_pl.building.workers import Stopped, Workers


def test_results_and_errors_are_read_by_number():
    def work(number):
        if number == 2:
            raise ValueError("two")
        return 10 * number

    workers = Workers(work, 2)
    for number in (3, 1, 2):
        workers.begin(number)
    assert [workers.result(1), workers.result(3)] == [10, 30]
    with pytest.raises(ValueError, match="two"):
        workers.result(2)
    workers.stop()


def test_stopping_ends_what_is_under_way_and_begins_nothing_more():
    before = set(threading.enumerate())
    started, go_on = threading.Event(), threading.Event()

    def work(number):
        started.set()
        go_on.wait(10)
        return number

    workers = Workers(work, 1)
    workers.begin(0)
    workers.begin(1)
    started.wait(10)
    threading.Timer(0.05, go_on.set).start()
    workers.stop()
    assert workers.result(0) == 0
    with pytest.raises(Stopped):
        workers.result(1)
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive()
