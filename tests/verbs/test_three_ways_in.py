"""Three ways by which a third party's files could run code: each is closed, by a message that names what was refused.

``canary`` is a module of the working directory that leaves a file when it is imported or called.
"""

import contextlib
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml

from nextgpt_pl.__main__ import main
from nextgpt_pl.decoders import DiffusionDecoder
from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import Modality
from nextgpt_pl.pipeline import AnyToAny
from nextgpt_pl.training.checkpoint_io import AtomicCheckpointIO
from nextgpt_pl.utils.paths import resolve

ROOT = Path(__file__).parents[2]
POCKET = ROOT / "experiments" / "models" / "pocket.yaml"
CANARY = """
from pathlib import Path
SUNG = Path(__file__).parent / "sung"
SUNG.touch()
class Canary:
    def __init__(self, *args, **kwargs):
        SUNG.touch()
    from_config = from_pretrained = classmethod(lambda cls, *args, **kwargs: cls())
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A working directory that is on Python's path, as with ``python -m``; the canary in it must not have sung."""
    (tmp_path / "canary.py").write_text(CANARY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    assert not (tmp_path / "sung").exists()
    assert "canary" not in sys.modules


def _sing():
    return {"class_path": "subprocess.Popen", "init_args": {"args": f"touch {Path.cwd()}/sung", "shell": True}}


def _call(command="touch sung"):
    class Call:
        def __reduce__(self):
            return os.system, (command,)

    return Call()


def test_the_canary_sings(here):
    """The tests below can fail."""
    __import__("canary")
    assert (here / "sung").exists()
    (here / "sung").unlink()
    del sys.modules["canary"]
    os.system("touch sung")
    (here / "sung").unlink()


@pytest.mark.parametrize("spec", ["canary.Canary", "subprocess.Popen", "os.system", "canary.SUNG.touch"])
@pytest.mark.parametrize("place", ["encoder", "llm", "input_projection", "spectrogram"])
def test_the_first_way_is_the_configuration_of_a_run(place, spec, here, capsys):
    network = yaml.safe_load(POCKET.read_text())
    value = {**_sing(), "class_path": spec}
    (network["init_args"]["decoders"]["audio"]["init_args"] if place == "spectrogram" else network["init_args"])[
        place
    ] = value
    (here / "run" / "adapter").mkdir(parents=True)
    (here / "run" / "config.yaml").write_text(yaml.safe_dump({"model": {"init_args": {"network": network}}}))
    with pytest.raises(UserError, match=rf"{place}: '{spec}' is refused in a configuration that is read as data"):
        AnyToAny.from_run(here / "run")
    assert main(["generate", "--run", "run", "--prompt", "x", "--out", "out"]) == 2
    assert f"'{spec}' is refused" in capsys.readouterr().err


@pytest.mark.parametrize("extractor", ["nextgpt_pl.metrics.extractors.ClipFeatures", "canary.Canary"])
@pytest.mark.parametrize("spec", ["canary.Canary", "subprocess.Popen"])
def test_the_second_way_is_an_argument_of_an_extractor(spec, extractor, here, capsys):
    given = {"class_path": extractor, "init_args": {"model": {**_sing(), "class_path": spec}}}
    score = {"class_path": "nextgpt_pl.evaluation.Frechet", "init_args": {"name": "FID", "extractor": given}}
    route = {"class_path": "nextgpt_pl.evaluation.PocketRoute", "init_args": {"route": "brief", "scores": [score]}}
    (here / "evaluation.yaml").write_text(yaml.safe_dump({"tasks": [route]}))
    (here / "predictions.jsonl").write_text("")
    assert main(["evaluate", "."]) == 2
    message = capsys.readouterr().err
    assert "tasks[0].scores[0].extractor" in message
    assert f"not a class ('{spec}')" in message or f"'{spec}' is refused" in message


def _checkpoint(path, **more):
    whole = {"pytorch-lightning_version": "2.6.0", "state_dict": {}, "global_step": 1, "epoch": 0, "loops": {}}
    torch.save({**whole, **more}, path)


@pytest.mark.parametrize("section", ["hyper_parameters", "datamodule_hyper_parameters"])
@pytest.mark.parametrize("key", ["class_path", "_class_path", "_instantiator"])
def test_the_third_way_is_the_hyperparameters_of_a_checkpoint(key, section, here):
    _checkpoint(here / "x.ckpt", **{section: {"network": [{key: "canary.Canary", "init_args": {}}]}})
    message = rf"x.ckpt'?: {section}.network.0.{key}='canary.Canary' is refused: a checkpoint is data"
    with pytest.raises(UserError, match=message):
        AtomicCheckpointIO().load_checkpoint(here / "x.ckpt")


def test_hyperparameters_are_not_merged_into_the_configuration(here, capsys):
    spec = {"_class_path": "canary.Canary", "_instantiator": "canary.Canary", "lr": {**_sing()}}
    _checkpoint(here / "x.ckpt", hyper_parameters=spec)
    experiment = str(ROOT / "experiments" / "dec_align.yaml")
    sizes = ["--data.sources.init_args.train_size=8", "--data.sources.init_args.val_size=8", "--trainer.max_steps=1"]
    assert main(["fit", "-c", experiment, *sizes, "--ckpt_path", "x.ckpt"]) == 2
    assert "hyper_parameters._class_path='canary.Canary' is refused" in capsys.readouterr().err


def test_a_pickle_is_named_by_what_it_would_call(here):
    _checkpoint(here / "x.ckpt", hyper_parameters=_call())
    with pytest.raises(UserError, match=r"x.ckpt' is not a readable checkpoint \(it is a pickle that names \w+.system"):
        AtomicCheckpointIO().load_checkpoint(here / "x.ckpt")


@pytest.fixture
def image(here):
    """A copy of the pocket image decoder's folder."""
    shutil.copytree(resolve("pocket:image"), here / "image", symlinks=False)
    return here / "image"


@pytest.mark.parametrize("spec", [["canary", "Canary"], ["diffusers", "StableDiffusionPipeline"], ["os.path", "x"]])
def test_the_folder_of_a_decoder_names_classes_of_diffusers_and_transformers_alone(spec, image):
    index = json.loads((image / "model_index.json").read_text())
    (image / "model_index.json").write_text(json.dumps({**index, "scheduler": spec}))
    decoder = DiffusionDecoder("StableDiffusionPipeline", str(image))
    with pytest.raises(UserError, match=rf"model_index.json: scheduler: '{spec[0]}\.{spec[1]}' is refused"):
        decoder._loaded()


@pytest.mark.parametrize("file", ["pipeline", "canary"])
def test_the_folder_of_a_decoder_has_no_code(file, image):
    index = json.loads((image / "model_index.json").read_text())
    (image / "model_index.json").write_text(json.dumps({**index, "_class_name": [file, "Canary"]}))
    shutil.copy("canary.py", image / f"{file}.py")
    with contextlib.suppress(UserError, ValueError):  # what is tested is that the canary does not sing
        DiffusionDecoder("StableDiffusionPipeline", str(image))._loaded()


def test_pickled_weights_of_a_decoder_call_nothing(image):
    for weights in image.rglob("*.safetensors"):
        weights.unlink()
        torch.save({"x": _call(f"touch {Path.cwd()}/sung")}, weights.parent / "diffusion_pytorch_model.bin")
        torch.save({"x": _call(f"touch {Path.cwd()}/sung")}, weights.parent / "pytorch_model.bin")
    decoder = DiffusionDecoder("StableDiffusionPipeline", str(image))
    with pytest.raises(Exception, match=r"(?i)weights.only|unpickl|system|load|safetensors"):
        decoder._loaded()
    with pytest.raises(Exception, match=r"(?i)weights.only|unpickl|system|load|safetensors"):
        decoder.embed_captions(["x"])


def test_the_code_of_a_folder_of_transformers_is_not_run(here):
    from nextgpt_pl.encoders import PretrainedEncoder
    from nextgpt_pl.llm import CausalLM

    shutil.copytree(resolve("pocket:llm"), here / "llm")
    config = json.loads((here / "llm" / "config.json").read_text())
    auto = dict.fromkeys(("AutoConfig", "AutoModel", "AutoModelForCausalLM"), "canary.Canary")
    config |= {"model_type": "no_such_type", "auto_map": auto}
    (here / "llm" / "config.json").write_text(json.dumps(config))
    shutil.copy("canary.py", here / "llm" / "canary.py")
    with pytest.raises(UserError, match=r"llm.path='llm': .*(no_such_type|custom code|trust_remote_code)"):
        _ = CausalLM("llm").config
    with pytest.raises(UserError, match=r"no_such_type|custom code|trust_remote_code"):
        PretrainedEncoder("llm", ["image"]).width(Modality.IMAGE)
    tokens = {"tokenizer_class": "CanaryTokenizer", "auto_map": {"AutoTokenizer": ["canary.Canary", None]}}
    folder = here / "words"
    shutil.copytree(resolve("pocket:llm"), folder)
    (folder / "tokenizer_config.json").write_text(json.dumps(tokens))
    shutil.copy("canary.py", folder / "canary.py")
    with contextlib.suppress(UserError):
        _ = CausalLM("words").tokenizer
