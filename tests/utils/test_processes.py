import os
import signal
import threading

import pytest

from nextgpt_pl.utils.processes import terminable


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interruption_that_python_drops_is_remembered(number):
    class Finalized:
        def __del__(self):
            os.kill(os.getpid(), number)
            for _ in range(1000):  # the handler runs here, and what it raises is dropped
                pass

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with terminable() as interrupted:
        assert not interrupted.is_set()
        thing = Finalized()
        del thing
        assert interrupted.is_set()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_interrupt(number):
    with terminable(), pytest.raises(KeyboardInterrupt):
        _send(number)


def _send(number):
    os.kill(os.getpid(), number)
    threading.Event().wait(5)


def test_in_another_thread_no_handler_is_set():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def run():
        with terminable() as interrupted:
            seen.append((signal.getsignal(signal.SIGTERM), interrupted.is_set()))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [(before, False)]
