"""``AutoConfig``, ``AutoModel`` and ``AutoProcessor`` of a pushed folder, and the code in it."""

import hashlib
import json
import shutil
import subprocess
import sys

import pytest
import torch
import yaml
from transformers import AutoConfig, AutoModel, AutoProcessor

from nextgpt_pl import hub
from nextgpt_pl.errors import UserError
from nextgpt_pl.hub.configuration import CODE

MESSAGES = [{"role": "user", "content": "Hello!"}]


@pytest.fixture
def foreign(hub_folder, tmp_path):
    """The folder, naming a class outside the package."""
    folder = shutil.copytree(hub_folder, tmp_path / "foreign")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    projection = {"class_path": "planted.PlantedProjection"}
    config["model"]["init_args"]["network"]["init_args"]["output_projection"] = projection
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    yield folder
    sys.modules.pop("planted", None)


def test_auto_classes_generate_what_any_to_any_does(hub_folder, chat):
    model = AutoModel.from_pretrained(hub_folder, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(hub_folder, trust_remote_code=True)
    asked = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}
    inputs = processor.apply_chat_template([MESSAGES, MESSAGES], **asked).to(model.device)
    texts = [[part.text for part in chat(MESSAGES, max_new_tokens=4)]] * 2
    contents = processor.batch_decode(model.generate(**inputs, max_new_tokens=4))
    assert [[part["text"] for part in content] for content in contents] == texts
    prompt = processor(text="Hello!")["prompts"][0]
    assert prompt.input_ids == inputs["prompts"][0].input_ids
    assert type(model) is hub.NextGPTModel
    assert type(processor) is hub.NextGPTProcessor
    assert not model.training
    assert model.to("cpu") is model


def test_the_code_of_the_folder_is_the_packages(hub_folder):
    assert (hub_folder / CODE.name).read_bytes() == CODE.read_bytes()
    assert [path.name for path in hub_folder.rglob("*.py")] == [CODE.name]
    assert hashlib.sha256(CODE.read_bytes()).hexdigest() in (hub_folder / "README.md").read_text()
    config = json.loads((hub_folder / "config.json").read_text())
    named = [*config["auto_map"].values(), config["custom_pipelines"]["any-to-any"]["impl"]]
    named += json.loads((hub_folder / "processor_config.json").read_text())["auto_map"].values()
    for module, name in (place.split(".") for place in named):
        assert module == CODE.stem
        assert name in hub.__all__


def test_the_code_says_which_package_is_missing(hub_folder):
    code = f"import sys; sys.modules['nextgpt_pl'] = None; exec(open({str(hub_folder / CODE.name)!r}).read())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "this model needs the package nextgpt_pl" in done.stderr
    assert "pip install -e ." in done.stderr


def test_without_trust_in_the_code_nothing_runs(hub_folder):
    from transformers import pipeline

    for load in (
        lambda: AutoModel.from_pretrained(hub_folder, trust_remote_code=False),
        lambda: AutoProcessor.from_pretrained(hub_folder, trust_remote_code=False),
        lambda: pipeline("any-to-any", model=str(hub_folder), trust_remote_code=False),
    ):
        with pytest.raises(ValueError, match="trust_remote_code=True"):
            load()


def test_classes_of_others_are_trusted_by_name(foreign):
    from transformers import pipeline

    for load in (
        lambda: AutoConfig.from_pretrained(foreign, trust_remote_code=True),
        lambda: AutoModel.from_pretrained(foreign, trust_remote_code=True),
        lambda: AutoProcessor.from_pretrained(foreign, trust_remote_code=True),
        lambda: pipeline("any-to-any", model=str(foreign), trust_remote_code=True),
    ):
        with pytest.raises(UserError, match=r"'planted.PlantedProjection' is refused.*trust=\['planted.Planted"):
            load()
        assert "planted" not in sys.modules
    trusted = {"trust": ["planted.PlantedProjection"]}
    pipe = pipeline("any-to-any", model=str(foreign), trust_remote_code=True, device="cpu", model_kwargs=trusted)
    assert type(pipe.model.network.output_projections["image"]).__name__ == "PlantedProjection"


def test_any_to_any_never_runs_code_of_the_folder(hub_folder, tmp_path):
    from nextgpt_pl import AnyToAny

    folder = shutil.copytree(hub_folder, tmp_path / "changed")
    (folder / CODE.name).write_text("raise AssertionError('the code of a folder was run')")
    assert AnyToAny.from_pretrained(folder, device="cpu").network.loaded


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": torch.bfloat16}, "dtype=bfloat16: the folder's config.yaml sets llm.dtype: float32"),
        ({"device_map": {"network": 0}}, "one device is expected"),
        ({"trsut": ["a.B"]}, "trsut: no such argument of from_pretrained here; did you mean 'trust'?"),
        ({"quantization_config": {"load_in_4bit": True}}, "quantization_config: no such argument"),
    ],
)
def test_options_without_effect_are_refused(hub_folder, options, message):
    with pytest.raises(UserError) as caught:
        AutoModel.from_pretrained(hub_folder, trust_remote_code=True, **options)
    assert message in str(caught.value)


def test_the_dtype_and_device_of_the_run_may_be_named(hub_folder):
    options = {"dtype": torch.float32, "device_map": "cpu", "trust_remote_code": True}
    assert AutoModel.from_pretrained(hub_folder, **options).device == torch.device("cpu")


def test_unknown_arguments_of_a_template_are_refused(pipe):
    for options, message in (
        ({"tokenize": False}, "tokenize=False: True is the only value here"),
        ({"padding": True}, "padding: no such option"),
    ):
        with pytest.raises(UserError, match=message):
            pipe.processor.apply_chat_template(MESSAGES, **options)


def test_a_loaded_folder_is_not_written(pipe, tmp_path):
    for part in (pipe, pipe.model, pipe.processor):
        for write in (part.save_pretrained, part.push_to_hub):
            with pytest.raises(UserError, match="push RUN"):
                write(str(tmp_path / "x"))
    assert not (tmp_path / "x").exists()
