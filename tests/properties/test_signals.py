"""Whenever a signal comes: a usual exit code, no traceback, and the same command goes on to the same weights."""

import shutil
import signal

from exploring import exploration
from hypothesis import strategies as st

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1]


def _usual(ended, sent):
    """Ended before the signal, stopped by it after a checkpoint, or killed by it before there is anything to save.

    Lightning's own handler of SIGTERM, which is there until the first step, exits with 1.
    """
    by_lightning = ended.code == 1 and "Received SIGTERM" in ended.output
    return by_lightning or ended.code in (0, *(128 + number for number in sent), *(-number for number in sent))


@exploration(few=2, many=40)
def test_a_signal_stops_a_run_that_goes_on(explore, runs, tmp_path):
    """A second signal comes while the first is handled."""
    shutil.rmtree(tmp_path / "outputs", ignore_errors=True)

    def stop(moments):
        sent = [(share * runs.seconds, number) for share, number in moments]
        ended = runs.fit(tmp_path, signals=sent)
        assert ended.code is not None, ended.output
        assert "Traceback" not in ended.output, ended.output
        assert _usual(ended, [number for _, number in sent]), (ended.code, ended.output)
        assert runs.resume(tmp_path) == "right"
        shutil.rmtree(tmp_path / "outputs")
        return f"exit code {ended.code}"

    moment = st.tuples(st.floats(0, 1.2), st.sampled_from(SIGNALS))
    explore(stop, moments=st.lists(moment, min_size=1, max_size=2))
