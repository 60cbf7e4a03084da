import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("WANDB_MODE", "disabled")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

if "PYTEST_XDIST_WORKER" in os.environ:
    # the workers share the cores, and so do the processes that they start
    import torch  # here, since the process that starts the workers needs none of it

    threads = max(1, (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    torch.set_num_threads(threads)

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "helpers"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Tests of a file mostly stay in one process, which makes the fixtures of modules once; idle ones take over."""
    if config.getvalue("dist") != "load":
        return None
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)


@pytest.fixture(scope="session")
def recorded() -> Path | None:
    """Real samples and all recorded numbers, if they lie beside the checkout. ``tests/golden`` holds most numbers."""
    folder = Path(os.environ.get("NEXTGPT_SHARED", ROOT.parent / "shared"))
    return folder if (folder / "golden").is_dir() else None


@pytest.fixture(scope="session")
def shared(recorded) -> Path:
    if not recorded:
        pytest.skip("needs recorded data that are not part of the project; set NEXTGPT_SHARED to their folder")
    return recorded


@pytest.fixture(scope="session")
def golden_folder() -> Path:
    return ROOT / "tests" / "golden"


@pytest.fixture(scope="session")
def pocket_tokenizer():
    from nextgpt_pl.llm import CausalLM

    return CausalLM("pocket:llm").tokenizer


@pytest.fixture
def network():
    """The pocket model, loaded. Decoders read their diffusion networks when they generate, and draw in two steps."""
    from functools import partial

    import tiny
    import torch

    from nextgpt_pl.llm import CausalLM
    from nextgpt_pl.modality import GENERATED
    from nextgpt_pl.model import NextGPT
    from nextgpt_pl.projections import TransformerOutputProjection

    torch.manual_seed(0)
    return NextGPT(
        llm=CausalLM("pocket:llm"),
        decoders={m.value: tiny.quick_decoder(m) for m in GENERATED},
        output_projection=partial(TransformerOutputProjection, width=32, layers=1, heads=4, dropout=0.0),
    )


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory) -> Path:
    """A folder of tiny random models, as ``helpers/tiny.py`` builds stages on."""
    import tiny

    folder = tmp_path_factory.mktemp("tiny_models")
    tiny.save_models(folder)
    return folder
