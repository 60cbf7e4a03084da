"""Signals end the command, without a browser."""

import signal

import pytest


@pytest.mark.slow
def test_ctrl_c_leaves_no_files(served_demo, outputs):
    pytest.importorskip("gradio", reason="pip install -e '.[demo]'")
    demo = served_demo(outputs)
    assert demo.address.startswith("http://127.0.0.1:")
    assert list(demo.folder.glob("nextgpt_demo*"))
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(60) == 0
    assert list(demo.folder.glob("nextgpt_demo*")) == []
    assert "Traceback" not in demo.log.read_text()
