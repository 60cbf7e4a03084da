"""LLM families of the transformers library, as tiny random instances: all stages, packing, adapters and replies."""

import llm_families
import pytest
import tiny
import torch
import torch.nn.functional as F
from llm_families import FAMILIES, folder_of
from transformers import LogitsProcessorList

from nextgpt_pl.batches import IGNORE
from nextgpt_pl.errors import UserError
from nextgpt_pl.generation.decoding import Decoding
from nextgpt_pl.generation.generate import generate
from nextgpt_pl.generation.prepared import prepare
from nextgpt_pl.generation.replies import medium_of, parts_of
from nextgpt_pl.generation.signals import caption_embeddings, written
from nextgpt_pl.generation.streaming import joined, pieces
from nextgpt_pl.llm import CausalLM
from nextgpt_pl.pipeline import AnyToAny
from nextgpt_pl.samples import Dialogue, Message, ReplyPart, TextPart
from nextgpt_pl.stages import InstructionTuning

_QUICK = ("Gemma 3", "Granite", "Phi-3", "Qwen3")  # of these, the stages are trained in each run of the tests
_RECURRENT = ("LFM2",)
_TALKS = (
    (("user", "Draw a red circle."),),
    (("system", "Be brief."), ("user", "What is the colour of a very small blue ring on the left side, please?")),
    (("user", "Hi."), ("assistant", "Hello, friend!"), ("user", "A ring.")),
)
_NO_SYSTEM = ("Gemma 2",)


def support(column, *, without=(), slow=()):
    """A cell of each family, some of which are computed in slow tests only."""
    names = [pytest.param(n, marks=pytest.mark.slow if n in slow else ()) for n in FAMILIES if n not in without]
    return lambda test: pytest.mark.support("llms", column)(pytest.mark.parametrize("name", names)(test))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_models):
    root = tmp_path_factory.mktemp("families")
    return lambda name: folder_of(name, root, tiny_models / "encoder")


def _talks(name):
    return [talk for talk in _TALKS if name not in _NO_SYSTEM or talk[0][0] != "system"]


def _in_double(llm):
    """Use numbers so precise that only a real difference shows, where a model's masks allow it."""
    return llm if llm.pretrained.attention == "eager" else llm.double()


# -- training


def _stage(kind, name, folder):
    stage, data = tiny.stage_and_data(kind, folder(name), 4, train_size=2, **FAMILIES[name].llm)
    if kind == "InstructionTuning":
        stage = InstructionTuning(stage.network, lora=llm_families.lora_of(name), samples=0, lr=1e-2, warmup_ratio=0.0)
    return stage, data


def _trains(kind, name, folder, expected):
    stage, data = _stage(kind, name, folder)
    stage.configure_model()
    before = {key: p.detach().clone() for key, p in stage.network.named_parameters()}
    losses = []
    step = stage.model_step
    stage.model_step = lambda *args: losses.append(step(*args)) or losses[-1]
    tiny.quiet_trainer(folder(name), max_steps=3, limit_val_batches=0).fit(stage, datamodule=data)
    assert len(losses) == 3
    assert torch.stack(losses).isfinite().all()
    parts = {key.partition(".")[0] if "llm" not in key else key for key in stage.trainable()}
    assert parts == expected
    changed = {key for key, p in stage.network.named_parameters() if not torch.equal(p, before[key])}
    assert changed <= set(stage.trainable())
    assert {key.partition(".")[0] if "llm" not in key else key for key in changed} == expected
    assert all(p.dtype == torch.float32 for p in stage.trainable().values())


def _rows(name, folder):
    network = tiny.network(folder(name), **FAMILIES[name].llm)
    network.load()
    return {key for key, _ in network.named_parameters() if key.startswith("llm.") and key.endswith(".rows")}


_SLOW = tuple(set(FAMILIES) - set(_QUICK))


@support("stage 1", slow=_SLOW)
def test_encoder_alignment_trains(name, folder):
    _trains("EncoderAlignment", name, folder, {"input_projections"})


@support("stage 2", slow=_SLOW)
def test_decoder_alignment_trains(name, folder):
    _trains("DecoderAlignment", name, folder, {"output_projections", *_rows(name, folder)})


@support("stage 3 with LoRA", slow=_SLOW)
def test_instruction_tuning_trains(name, folder):
    stage, _ = _stage("InstructionTuning", name, folder)
    stage.configure_model()
    updates = {key for key, _ in stage.network.named_parameters() if "lora_" in key}
    layers = {key.split(".lora_")[0] for key in updates}
    assert {layer.rpartition(".")[2] for layer in layers} == set(FAMILIES[name].lora)
    trained = {"input_projections", "output_projections", *updates, *_rows(name, folder)}
    _trains("InstructionTuning", name, folder, trained)


@support("adapter round trip")
def test_a_saved_adapter_is_read_with_the_same_states(name, folder, tmp_path):
    stage, _ = _stage("InstructionTuning", name, folder)
    stage.configure_model()
    with torch.no_grad():
        for key, parameter in stage.network.named_parameters():
            if "lora_B" in key or key.endswith(".rows"):
                parameter.normal_()
    stage.save_adapter(tmp_path / "adapter")
    again = InstructionTuning(
        tiny.network(folder(name), **FAMILIES[name].llm),
        lora=llm_families.lora_of(name),
        samples=0,
        init_from=tmp_path / "adapter",
    )
    again.configure_model()
    ids = torch.arange(12).view(2, 6) + stage.network.llm.vocab_size - 6
    found = []
    for llm in (stage.network.llm.eval(), again.network.llm.eval()):
        with torch.no_grad():
            states = llm(llm.embed(ids))
            found.append((states, llm.logits(states.flatten(0, 1))))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


# -- passes


def _pass(folder, name, **options):
    """States and gradients of the signal rows, of a batch of rows of different length."""
    torch.manual_seed(0)
    llm = CausalLM(str(folder(name) / "llm"), **{**FAMILIES[name].llm, **options})
    llm.load(4)
    _in_double(llm)
    generator = torch.Generator().manual_seed(1)
    lengths = [40, 25, 60, 9, 33]
    mask = torch.arange(60) < torch.tensor(lengths).unsqueeze(1)
    ids = torch.randint(0, llm.vocab_size, mask.shape, generator=generator)
    ids[:, 5::3] = torch.randint(llm.vocab_size, llm.vocab_size + 4, ids[:, 5::3].shape, generator=generator)
    states = llm(llm.embed(ids), lengths, [5] * 5)
    weights = torch.randn(states.shape, generator=generator).to(states.dtype)
    (states * weights)[mask].sum().backward()
    return states.detach()[mask], llm.model.get_input_embeddings().rows.grad


def _same(found, others):
    assert found[1].abs().max() > 1e-3
    for ours, theirs in zip(found, others, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


@support("packed equals padded", without=_RECURRENT)
def test_packed_rows_have_the_states_of_padded_ones(name, folder):
    _same(_pass(folder, name), _pass(folder, name, packing=True))


@support("frozen prefix, length groups")
def test_divided_passes_have_the_states_of_one(name, folder):
    _same(_pass(folder, name), _pass(folder, name, frozen_prefix=True, length_groups=2))


@pytest.mark.parametrize("name", _RECURRENT)
def test_layers_that_would_mix_packed_rows_are_refused(name, folder):
    llm = CausalLM(str(folder(name) / "llm"), packing=True)
    with pytest.raises(UserError, match=r"llm\.packing=true: Lfm2ForCausalLM .* layers \(conv\).*llm\.length_groups"):
        llm.load(4)


@pytest.mark.parametrize("name", ["Mistral", "Phi-3"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_rows_keep_their_window(name, attention, folder):
    """With two layers of windows of 16 tokens, a state depends on 30 earlier tokens and on no others."""
    llm = CausalLM(str(folder(name) / "llm"), packing=True, attention=attention)
    llm.load(4)
    ids = torch.arange(4 * 40).view(4, 40)
    lengths = [40, 20, 12, 20]
    with torch.no_grad():
        states = llm(llm.embed(ids), lengths)
        ids[0, 8] += 1
        changed = llm(llm.embed(ids), lengths)
    moved = (states[0] - changed[0]).abs().amax(-1) > 1e-5
    assert moved[8:38].all()
    assert not moved[:8].any()
    assert not moved[39]
    torch.testing.assert_close(states[1:, :12], changed[1:, :12])


@support("loss of its own logits")
def test_the_loss_is_that_of_the_models_logits(name, folder):
    llm = CausalLM(str(folder(name) / "llm"), **FAMILIES[name].llm)
    llm.load(4)
    ids = torch.cat([torch.randint(0, llm.vocab_size, (2, 20)), llm.vocab_size + torch.arange(8).view(2, 4) % 4], 1)
    embeddings = llm.embed(ids)
    torch.testing.assert_close(embeddings, _embedded(llm, ids))
    loss, _ = llm.cross_entropy(llm(embeddings)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    logits = llm.model(input_ids=ids).logits[:, :-1].flatten(0, 1)
    assert logits.shape[-1] == llm.vocab_size + 4
    torch.testing.assert_close(loss, F.cross_entropy(logits, ids[:, 1:].flatten(), reduction="sum"))


def _embedded(llm, ids):
    """As one matrix with the signal tokens' rows embeds them."""
    embedding = llm.model.get_input_embeddings()
    whole = torch.cat([embedding.base.weight, embedding.rows])
    scale = llm.hidden_size**0.5 if llm.config.model_type.startswith("gemma") else 1.0
    return whole[ids] * scale


# -- replies


def _chat(name, folder):
    network = tiny.network(folder(name), **FAMILIES[name].llm)
    network.load()
    _in_double(network.llm)
    with torch.no_grad():  # so that replies contain media
        network.llm.model.get_output_embeddings().rows.mul_(4)
    return AnyToAny(network)


def _prompts(chat, name):
    return [chat.prompt([{"role": role, "content": text} for role, text in talk], 24) for talk in _talks(name)]


@support("reply")
def test_replies_are_those_of_transformers_under_the_same_rules(name, folder):
    chat, decoding = _chat(name, folder), Decoding(max_new_tokens=24)
    network, prompts = chat.network, _prompts(chat, name)
    signals = 0
    for prompt, reply in zip(prompts, generate(network, prompts, decoding), strict=True):
        prepared = prepare(network, [prompt], decoding)
        ids = network.llm.model.generate(
            inputs_embeds=prepared.embeddings,
            attention_mask=torch.ones(1, prepared.lengths[0], dtype=torch.long),
            logits_processor=LogitsProcessorList([prepared.rules]),
            eos_token_id=list(prepared.rules.end_ids),
            pad_token_id=0,
            max_new_tokens=24,
            do_sample=False,
        )
        assert reply.ids == prepared.rules.whole_reply(ids[0].tolist())
        signals += sum(token >= network.llm.vocab_size for token in reply.ids)
    assert signals > 0


@support("stream equals batch")
def test_a_streamed_reply_is_the_batch_reply(name, folder):
    chat, decoding = _chat(name, folder), Decoding(max_new_tokens=24)
    network, prompts = chat.network, _prompts(chat, name)
    for prompt, reply in zip(prompts, generate(network, prompts, decoding), strict=True):
        whole = written(network, prompt, reply)
        expected = [part.text or part.type for part, _ in parts_of(network, whole.row)]
        embeddings = caption_embeddings(network, [whole])[0]
        parts, media = [], []
        for piece in pieces(network, prompt, decoding):
            if isinstance(piece, tuple):
                media.append(piece[1])
            parts.append(piece if isinstance(piece, ReplyPart) else medium_of(piece[0]))
        assert [part.text or part.type for part in joined(parts)] == expected
        assert len(media) == len(embeddings)
        for one, other in zip(media, embeddings, strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@support("chat template")
def test_each_reply_is_learned_behind_its_own_prompt(name, folder):
    """Also the token that ends it, which ends generation."""
    llm = CausalLM(str(folder(name) / "llm"), **FAMILIES[name].llm)
    network = tiny.network(folder(name), **FAMILIES[name].llm)
    render = network.conversation()
    llm.load(4)
    for system in (False, True):
        if system and name in _NO_SYSTEM:
            continue
        texts = [("system", "Be brief.")] * system
        texts += [("user", "Hi."), ("assistant", "Hello, friend!"), ("user", "A ring."), ("assistant", "It is red.")]
        dialogue = Dialogue("k", tuple(Message(role, (TextPart(text),)) for role, text in texts))
        learned = []
        for row in render.rows(dialogue):
            learned += [(row, position) for position in _begins(row.labels)]
        assert len(learned) == 2
        for (row, position), end in zip(learned, (len(texts) - 3, len(texts) - 1), strict=True):
            prompt = render.prompt(Dialogue("k", dialogue.messages[:end]))
            assert row.input_ids[:position] == prompt.input_ids
            reply = row.input_ids[position:]
            stop = next(i for i, token in enumerate(reply) if token in llm.end_ids)
            assert row.labels[position : position + stop + 1] == reply[: stop + 1]
            assert llm.tokenizer.decode(reply[:stop]).strip() == texts[end][1]
            assert llm.tokenizer.convert_ids_to_tokens(reply[stop]) == FAMILIES[name].end


def _begins(labels):
    return [i for i, label in enumerate(labels) if label != IGNORE and labels[i - 1] == IGNORE]


@pytest.mark.parametrize("name", _NO_SYSTEM)
def test_a_template_without_a_system_turn_says_so(name, folder):
    messages = (Message("system", (TextPart("Be brief."),)), Message("user", (TextPart("Hi."),)))
    with pytest.raises(UserError, match="k: the chat template refuses the messages: System role not supported"):
        tiny.network(folder(name)).conversation().prompt(Dialogue("k", messages))
