"""LLM families: replies are those of transformers under the same rules, and are learned behind their own prompts."""

import pytest
import tiny
import torch
from llm_families import FAMILIES
from saved_llms import LIKE_OTHERS, in_double, support
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

_TALKS = (
    (("user", "Draw a red circle."),),
    (("system", "Be brief."), ("user", "What is the colour of a very small blue ring on the left side, please?")),
    (("user", "Hi."), ("assistant", "Hello, friend!"), ("user", "A ring.")),
)
_NO_SYSTEM = ("Gemma 2",)


def _talks(name):
    return [talk for talk in _TALKS if name not in _NO_SYSTEM or talk[0][0] != "system"]


def _chat(name, families):
    network = tiny.network(families(name), **FAMILIES[name].llm)
    network.load()
    in_double(network.llm)
    with torch.no_grad():  # so that replies contain media
        network.llm.model.get_output_embeddings().rows.mul_(4)
    return AnyToAny(network)


def _prompts(chat, name):
    return [chat.prompt([{"role": role, "content": text} for role, text in talk], 24) for talk in _talks(name)]


@support("reply", slow=LIKE_OTHERS)
def test_replies_are_those_of_transformers_under_the_same_rules(name, families):
    chat, decoding = _chat(name, families), Decoding(max_new_tokens=24)
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


@support("stream equals batch", slow=LIKE_OTHERS)
def test_a_streamed_reply_is_the_batch_reply(name, families):
    chat, decoding = _chat(name, families), Decoding(max_new_tokens=24)
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
def test_each_reply_is_learned_behind_its_own_prompt(name, families):
    """Also the token that ends it, which ends generation."""
    llm = CausalLM(str(families(name) / "llm"), **FAMILIES[name].llm)
    network = tiny.network(families(name), **FAMILIES[name].llm)
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
def test_a_template_without_a_system_turn_says_so(name, families):
    messages = (Message("system", (TextPart("Be brief."),)), Message("user", (TextPart("Hi."),)))
    with pytest.raises(UserError, match="k: the chat template refuses the messages: System role not supported"):
        tiny.network(families(name)).conversation().prompt(Dialogue("k", messages))
