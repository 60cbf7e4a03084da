import os
import signal

import pytest

from nextgpt_pl import __main__
from nextgpt_pl.training.interrupts import Signals, exiting


@pytest.fixture
def default_handler():
    """Sets a signal's default handler: processes in the background ignore SIGINT and SIGHUP."""
    found = {}

    def set_default(number):
        default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        found[number] = signal.signal(number, default)
        return default

    yield set_default
    for number, handler in found.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP", "SIGTERM", "SIGUSR1"])
def test_a_signal_is_recorded_and_the_handlers_are_given_back(name, default_handler, capfd):
    number, signals = getattr(signal, name), Signals()
    before = default_handler(number)
    signals.take_over(announces=True)
    try:
        os.kill(os.getpid(), number)
        assert signals.received == number
        assert "stopping after this optimizer step" in capfd.readouterr().err
    finally:
        signals.give_back()
    assert signal.getsignal(number) == before


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup leaves it
    signals = Signals()
    signals.take_over(announces=False)
    try:
        os.kill(os.getpid(), signal.SIGHUP)
        assert signals.received is None
    finally:
        signals.give_back()
        signal.signal(signal.SIGHUP, before)


def test_ctrl_c_at_the_start_is_no_traceback(monkeypatch, capsys):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("nextgpt_pl.verbs.summary.main", interrupted)
    assert __main__.main(["summary"]) == 130
    assert capsys.readouterr().err.strip() == "interrupted"


@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP", "SIGTERM", "SIGUSR1"])
def test_before_the_training_a_signal_exits(name, default_handler, capfd):
    number = getattr(signal, name)
    before = default_handler(number)
    with pytest.raises(SystemExit) as left, exiting():
        os.kill(os.getpid(), number)
    assert left.value.code == 128 + number
    assert capfd.readouterr().err.strip() == "interrupted"
    assert signal.getsignal(number) == before


def test_a_second_ctrl_c_exits_at_once(default_handler):
    default_handler(signal.SIGINT)
    signals = Signals()
    signals.take_over(announces=False)
    try:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(SystemExit) as left:
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signals.give_back()
    assert left.value.code == 130
