"""The golden data of the official code, and our network around its tiny weights."""

import json
from functools import cache, partial

import golden_official
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, PreTrainedTokenizerFast

from nextgpt_pl.decoders.base import PrecomputedEmbeddings
from nextgpt_pl.encoders import Encoder
from nextgpt_pl.llm import CausalLM
from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.model import NextGPT

TEMPLATE = "{% for m in messages %}### {{ m.role }}: {{ m.content }}{% endfor %}"


@pytest.fixture(scope="session")
def official(recorded, tmp_path_factory):
    """Folder of the golden data: the recorded one, or, without it, that of ``tests/golden`` with samples of outputs."""
    if recorded:
        return recorded / "golden" / "official"
    return golden_official.unpack(tmp_path_factory.mktemp("official"))


@pytest.fixture(scope="session")
def layout(official):
    return json.loads((official / "layout.json").read_text())


@pytest.fixture(scope="session")
def made_input():
    """Golden inputs, which follow from their name."""
    return golden_official.made_input


@pytest.fixture(scope="session")
def made_parameter():
    """Golden weights too large to be stored, which follow from their name."""
    return golden_official.made_parameter


class GivenFeatures(Encoder):
    """An encoder whose media are their features."""

    modalities = GENERATED

    def __init__(self, width: int, tokens: dict[Modality, int] | None = None):
        super().__init__()
        self.size, self.counts = width, tokens or {}

    def width(self, modality):
        return self.size

    def tokens(self, modality):
        return self.counts.get(modality, 1)

    @property
    def source(self):
        return "given"

    @property
    def loaded(self):
        return True

    def producer(self, modality):
        return {"class": type(self).__name__}

    def load(self):
        pass

    def blank(self, modality):
        return torch.zeros(1, self.tokens(modality), self.size)

    def prepare(self, media):
        return torch.from_numpy(media.source())

    def forward(self, modality, inputs):
        return inputs


def llm_folder(folder, config: dict, weights: dict[str, torch.Tensor], own_rows: int):
    """A Llama of the golden weights; its vocabulary is noise, which the checkpoint has to replace."""
    folder.mkdir()
    noise = torch.Generator().manual_seed(0)
    weights = {key: value.float() for key, value in weights.items() if "projector" not in key}
    for key in ("model.embed_tokens.weight", "lm_head.weight"):
        weights[key] = torch.randn(own_rows, weights[key].shape[1], generator=noise)
    LlamaConfig(**{**config, "vocab_size": own_rows}).save_pretrained(folder)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    words = {word: i for i, word in enumerate(["<unk>", "<s>", "</s>", *(f"w{i}" for i in range(3, own_rows))])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    return folder


SHAPES = {
    "legacy": {"image": [77, 768], "video": [77, 1024], "audio": [512]},
    "v2": {"image": [77, 1024], "video": [77, 1024], "audio": [512]},
}


def tiny_network(folder, kind: str, output, inputs, encoder, **arguments) -> NextGPT:
    extra = ["<Img>", "</Img>"] if kind == "legacy" else []
    return NextGPT(
        llm=CausalLM(str(folder), extra_tokens=extra, attention="eager"),
        decoders={name: PrecomputedEmbeddings(shape) for name, shape in SHAPES[kind].items()},
        output_projection=output,
        encoder=encoder,
        input_projection=inputs,
        share_input_projection=True,
        **arguments,
    )


@pytest.fixture(scope="session")
def legacy_llm(official, tmp_path_factory):
    folder = official / "legacy_stage2_loss"
    config = json.loads((folder / "expected.json").read_text())["config"]["llama"]
    weights = load_file(folder / "tiny_llama.safetensors")
    return llm_folder(tmp_path_factory.mktemp("legacy") / "llm", config, weights, 640)


@pytest.fixture
def legacy_network(legacy_llm):
    """Not loaded."""
    from nextgpt_pl.projections import LinearInputProjection, TransformerOutputProjection

    output = partial(TransformerOutputProjection, width=32, dropout=0.0)
    return tiny_network(legacy_llm, "legacy", output, LinearInputProjection, GivenFeatures(32))


@pytest.fixture(scope="session")
def legacy_adapter(official, tmp_path_factory):
    """The legacy checkpoint of a stage, imported once."""
    from nextgpt_pl.official.read import import_official

    folder = official / "legacy_output_projection_transformer"
    files = {2: "checkpoint_stage2_fp16.safetensors", 3: "pytorch_model_stage3_fp16.pt"}

    @cache
    def adapter(stage: int):
        target = tmp_path_factory.mktemp("imported") / f"stage{stage}"
        import_official("legacy", [folder / files[stage]], target)
        return target / "adapter"

    return adapter
