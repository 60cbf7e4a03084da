"""An official legacy checkpoint, imported and asked: what its decoders are given equals a computation done by hand."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
import yaml
from torch import nn
from transformers import AutoModelForCausalLM

from nextgpt_pl.__main__ import main
from nextgpt_pl.generation import generate as generation
from nextgpt_pl.generation.options import reply_options
from nextgpt_pl.generation.prepared import truncated
from nextgpt_pl.generation.signals import Written, caption_embeddings
from nextgpt_pl.generation.token_passes import Step
from nextgpt_pl.pipeline import AnyToAny
from nextgpt_pl.readers.chat import dialogue_of
from nextgpt_pl.utils.paths import resolve

SUFFIX = {"image": "", "video": "_video", "audio": "_audio"}
SHAPES = {"image": (32, 128), "video": (32, 128), "audio": (1, 128)}
LORA, WIDTH, RANK = "llama_model.base_model.model.", 16, 4
PROMPT = [{"role": "user", "content": "Draw a small red circle on the left on white, please."}]


@pytest.fixture(scope="module")
def checkpoint():
    """Random numbers under the names that the legacy code saves after stage 3."""
    torch.manual_seed(0)
    llama = AutoModelForCausalLM.from_pretrained(resolve("pocket:llm"), dtype=torch.float32)
    width = llama.config.hidden_size
    state = {
        # near the model's own rows, so that it goes on to write whole sentences
        f"{LORA}model.embed_tokens.weight": _more_rows(llama.get_input_embeddings().weight),
        f"{LORA}lm_head.weight": _more_rows(llama.get_output_embeddings().weight),
        "llama_proj.weight": torch.randn(width, 128) * 0.1,
        "llama_proj.bias": torch.randn(width) * 0.1,
    }
    for name, layer in llama.named_modules():
        if name.endswith(("q_proj", "k_proj", "v_proj", "o_proj")):
            state[f"{LORA}{name}.lora_A.default.weight"] = torch.randn(RANK, layer.in_features) * 0.02
            state[f"{LORA}{name}.lora_B.default.weight"] = torch.randn(layer.out_features, RANK) * 0.02
    for medium, (length, dim) in SHAPES.items():
        prefix = f"gen_text_hidden_fcs{SUFFIX[medium]}.0."
        parts = {"fc": nn.Linear(width, WIDTH), "tfm": _transformer(), "model": nn.Linear(WIDTH, dim)}
        for part, module in parts.items():
            state |= {f"{prefix}{part}.{k}": v.detach() for k, v in module.state_dict().items()}
        state[f"{prefix}query_embs"] = torch.randn(1, length, WIDTH)
    return llama, state


def _more_rows(weight):
    return torch.cat(
        [weight + 0.01 * torch.randn_like(weight), weight.std() * torch.randn(38, weight.shape[1])]
    ).detach()


def _transformer():
    return nn.Transformer(WIDTH, 4, 4, 4, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=True).eval()


@pytest.fixture
def chat(checkpoint, tmp_path):
    """The imported folder, as a user has it who keeps the frozen parts elsewhere."""
    torch.save(OrderedDict((k, nn.Parameter(v)) for k, v in checkpoint[1].items()), tmp_path / "pytorch_model.pt")
    parts = {name: f"pocket:{name}" for name in ("llm", "encoder", "image", "video", "audio")}
    flags = [word for name, path in parts.items() for word in (f"--{name}", path)]
    folder = tmp_path / "imported"
    assert main(["import", "legacy", str(tmp_path), "--out", str(folder), "--dtype", "float32", *flags]) == 0
    config = yaml.safe_load((folder / "config.yaml").read_text())
    network = config["model"]["init_args"]["network"]["init_args"]
    shared = dict.fromkeys(("vae", "text_encoder", "tokenizer"), "pocket:image")
    network["decoders"]["video"]["init_args"]["parts"] = shared
    network["encoder"]["init_args"] |= {"video_clips": 4, "audio_clips": 1}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return AnyToAny.from_pretrained(folder)


@torch.no_grad()
def _by_hand(checkpoint, ids, start, medium):
    """Plain transformers and torch, and nothing of this package: the caption embedding of the span at ``start``."""
    llama, state = checkpoint
    table = state[f"{LORA}model.embed_tokens.weight"]
    layers, kept = dict(llama.named_modules()), {}
    for name in [n for n in layers if n.endswith(("q_proj", "k_proj", "v_proj", "o_proj"))]:
        a, b = (state[f"{LORA}{name}.lora_{side}.default.weight"] for side in "AB")
        kept[name] = layers[name].weight.clone()
        layers[name].weight += 32 / RANK * b @ a
    hidden = llama.model(inputs_embeds=table[ids][None]).last_hidden_state[0]
    for name, weight in kept.items():
        layers[name].weight.copy_(weight)
    prefix = f"gen_text_hidden_fcs{SUFFIX[medium]}.0."
    part = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    stop = start + {"image": 4, "video": 24, "audio": 8}[medium]
    source = (hidden[start:stop] + table[ids[start:stop]]) @ part["fc.weight"].T + part["fc.bias"]
    transformer = _transformer()
    transformer.load_state_dict({k.removeprefix("tfm."): v for k, v in part.items() if k.startswith("tfm.")})
    out = transformer(source[None], part["query_embs"])[0]
    return out @ part["model.weight"].T + part["model.bias"]


@pytest.mark.parametrize("medium", SUFFIX)
def test_the_pipelines_embedding_is_the_one_computed_by_hand(checkpoint, chat, medium, monkeypatch):
    given = []

    def draw(embeddings, **_):
        given.append(embeddings)
        return [np.zeros(3, np.float32)] * len(embeddings)

    decoder = next(d for m, d in chat.network.decoders.items() if m == medium)
    monkeypatch.setattr(decoder, "generate", draw)
    options = {"modalities": [medium], "max_new_tokens": 60}
    reply = chat(PROMPT, **options)
    assert [part.type for part in reply].count(medium) >= 1
    (written,) = chat.write([PROMPT], reply_options(options, chat.network.decoders)[0])
    spans = [span for span in written.spans if span.modality == medium]
    first = len(checkpoint[1][f"{LORA}model.embed_tokens.weight"]) - 36 + {"image": 0, "video": 4, "audio": 28}[medium]
    assert written.input_ids[spans[0].start] == first
    expected = _by_hand(checkpoint, torch.tensor(written.input_ids), spans[0].start, medium)
    assert expected.std() > 0.1
    torch.testing.assert_close(given[0][0].reshape(expected.shape), expected, atol=2e-5, rtol=1e-5)
    # the weights matter: without the low-rank updates another embedding comes out
    for layer in chat.network.modules():
        if getattr(layer, "merged", False):
            layer.unmerge()
    with torch.no_grad():
        for name, parameter in chat.network.named_parameters():
            if "lora_B" in name:
                parameter.zero_()
    changed = _given_again(chat, decoder, written, medium)
    assert not torch.allclose(changed.reshape(expected.shape), expected, atol=1e-3)


def test_conversations_are_those_that_the_legacy_code_trained_on(chat):
    picture = {"type": "image", "image": np.full((64, 64, 3), 255, np.uint8)}
    messages = [
        {"role": "user", "content": [picture, {"type": "text", "text": "what is it"}]},
        {"role": "assistant", "content": "a circle"},
        {"role": "user", "content": "draw it"},
    ]
    tokenizer, rows = chat.network.llm.tokenizer, chat.network.llm.vocab_size
    (prompt,) = [chat.conversation.render(dialogue_of(messages), add_generation_prompt=True)]
    (slot,) = prompt.slots
    assert prompt.input_ids[slot.start - 1] == rows - 2
    assert prompt.input_ids[slot.stop] == rows - 1
    text = tokenizer.decode([*prompt.input_ids[: slot.start], *prompt.input_ids[slot.stop :]])
    expected = "### Human: <Img></Img> what is it\n### Assistant: a circle\n### Human: draw it\n### Assistant:"
    assert text.removeprefix(tokenizer.bos_token or "") == expected
    learned = [i for i in prompt.labels if i >= 0]
    # with the blank in front, which the official tokenizer's first token of a reply has too
    assert tokenizer.decode(learned).startswith(" a circle\n###")


def test_replies_end_before_the_mark_of_the_next_turn(chat, monkeypatch):
    llm = chat.network.llm
    ids = llm.tokenizer("a circle\n### Human: what", add_special_tokens=False).input_ids
    steps = [[Step(0, [token], torch.zeros(1, llm.hidden_size))] for token in ids]
    monkeypatch.setattr(generation, "passes", lambda *_: iter(steps))
    (part,) = chat(PROMPT, modalities=[])
    assert part.text == "a circle"
    llm.stop.clear()
    assert truncated(ids, [], llm.tokenizer.decode) == ids
    assert llm.tokenizer.decode(truncated(ids, ["Human", "# H"], llm.tokenizer.decode)).startswith("a circle\n##")


def _given_again(chat, decoder, written, medium):
    number = next(i for i, span in enumerate(written.spans) if span.modality == medium)
    return caption_embeddings(chat.network, [Written(written)])[0][number]
