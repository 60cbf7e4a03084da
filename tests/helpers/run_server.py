"""``serve``, with a model that replies once a file exists: ``run_server.py FILE [options of serve]``."""

import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from served import ToldModel

from nextgpt_pl.__main__ import main
from nextgpt_pl.pipeline import AnyToAny


def told(file):
    model = ToldModel()

    def wait():
        while not file.exists():
            time.sleep(0.01)
        model.go.set()

    threading.Thread(target=wait, daemon=True).start()
    return model


if __name__ == "__main__":
    AnyToAny.from_run = lambda *_arguments, **_named: told(Path(sys.argv[1]))
    sys.exit(main(["serve", "--run", "tiny", *sys.argv[2:]]))
