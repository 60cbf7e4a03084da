import subprocess
import sys

import pytest

from nextgpt_pl.__main__ import main


def test_help_imports_neither_torch_nor_gradio():
    code = (
        "import sys\nfrom nextgpt_pl.__main__ import main\n"
        "try:\n    main(['demo', '--help'])\nexcept SystemExit:\n    pass\n"
        "assert not {'torch', 'gradio'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--max_seconds" in done.stdout


def test_without_gradio_the_install_command_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["demo"]) == 2
    assert "pip install 'nextgpt-pl[demo]'" in capsys.readouterr().err


def test_an_address_that_cannot_be_used_is_named(capsys):
    pytest.importorskip("gradio", reason="pip install -e '.[demo]'")
    assert main(["demo", "--port", "70000"]) == 2
    assert "port=70000: a number from 0 to 65535" in capsys.readouterr().err
