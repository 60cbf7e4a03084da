import signal

import pytest

from nextgpt_pl.utils.processes import noted_interrupts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_interruption_is_noted_and_the_second_interrupts(number):
    before = signal.signal(number, signal.default_int_handler)
    try:
        with noted_interrupts() as stop:
            assert not stop.is_set()
            signal.raise_signal(number)
            assert stop.is_set()
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(number)
        with noted_interrupts():
            pass
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    finally:
        signal.signal(number, before)
