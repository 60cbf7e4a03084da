import os
import subprocess
import sys
import warnings

import diffusers.utils.logging as diffusers_logging
import transformers.utils.logging as transformers_logging
from transformers import AutoModelForCausalLM

from nextgpt_pl.llm import CausalLM
from nextgpt_pl.utils.paths import resolve
from nextgpt_pl.utils.quiet import quiet_loading

# as in a notebook: without the settings that the command line makes
IN_A_FRESH_PROCESS = """
import sys
import nextgpt_pl
assert "torch" not in sys.modules
nextgpt_pl.AnyToAny
assert "lightning" not in sys.modules
from nextgpt_pl.llm import CausalLM
from nextgpt_pl.modality import GENERATED
from nextgpt_pl.pocket.parts import pocket_decoder

CausalLM("pocket:llm", gradient_checkpointing=True).load(4)
for modality in GENERATED:
    decoder = pocket_decoder(modality)
    embeddings = decoder.embed_captions(["a red circle"])
    decoder.generate(embeddings, seed=0, num_inference_steps=1)
print("loaded")
"""


def test_the_python_api_imports_no_lightning_and_loads_all_parts_without_a_word_of_the_libraries():
    """A service that answers messages needs no training framework."""
    hidden = ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY", "HF_HUB_DISABLE_PROGRESS_BARS")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        [sys.executable, "-c", IN_A_FRESH_PROCESS], capture_output=True, text=True, check=False, env=environment
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "loaded\n", "")


def test_settings_of_the_libraries_are_as_before(capfd, monkeypatch):
    monkeypatch.setattr(transformers_logging, "_tqdm_active", True)
    modules = (transformers_logging, diffusers_logging)
    before = [(module.get_verbosity(), module.is_progress_bar_enabled()) for module in modules]
    llm = CausalLM("pocket:llm")
    llm.load(4)
    assert "Loading weights" not in capfd.readouterr().err
    assert [(module.get_verbosity(), module.is_progress_bar_enabled()) for module in modules] == before
    AutoModelForCausalLM.from_pretrained(resolve("pocket:llm"))
    assert "Loading weights" in capfd.readouterr().err


def test_an_error_restores_the_settings():
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_info()
    try:
        with quiet_loading():
            assert transformers_logging.get_verbosity() == transformers_logging.ERROR
            raise RuntimeError("weights")
    except RuntimeError:
        assert transformers_logging.get_verbosity() == transformers_logging.INFO
    finally:
        transformers_logging.set_verbosity(level)


def test_gradient_checkpointing_uses_no_deprecated_call():
    llm = CausalLM("pocket:llm", gradient_checkpointing=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        llm.load(4)
    assert llm.model.is_gradient_checkpointing
