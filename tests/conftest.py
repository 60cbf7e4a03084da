import os
import sys
from pathlib import Path

import pytest
import torch

os.environ.setdefault("WANDB_MODE", "disabled")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

if "PYTEST_XDIST_WORKER" in os.environ:
    # the workers share the cores, and so do the processes that they start
    threads = max(1, (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    torch.set_num_threads(threads)

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "helpers"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real sample data and golden numbers, which lie beside the checkout and are not part of it."""
    folder = Path(os.environ.get("NEXTGPT_SHARED", ROOT.parent / "shared"))
    if not (folder / "golden").is_dir():
        pytest.skip(f"no golden data in {folder}; set NEXTGPT_SHARED")
    return folder


@pytest.fixture(scope="session")
def pocket_tokenizer():
    from nextgpt_pl.llm import CausalLM

    return CausalLM("pocket:llm").tokenizer


@pytest.fixture
def network():
    """The pocket model, loaded; decoders read their diffusion networks only when asked to generate."""
    from functools import partial

    from nextgpt_pl.llm import CausalLM
    from nextgpt_pl.modality import GENERATED
    from nextgpt_pl.model import NextGPT
    from nextgpt_pl.pocket.parts import pocket_decoder
    from nextgpt_pl.projections import TransformerOutputProjection

    torch.manual_seed(0)
    return NextGPT(
        llm=CausalLM("pocket:llm"),
        decoders={m.value: pocket_decoder(m) for m in GENERATED},
        output_projection=partial(TransformerOutputProjection, width=32, layers=1, heads=4, dropout=0.0),
    )


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory) -> Path:
    """A folder of tiny random models, as ``helpers/tiny.py`` builds stages on."""
    import tiny

    folder = tmp_path_factory.mktemp("tiny_models")
    tiny.save_models(folder)
    return folder
