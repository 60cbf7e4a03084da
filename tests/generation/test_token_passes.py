from functools import partial
from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from nextgpt_pl.dialogue.signal_spans import WholeSpans
from nextgpt_pl.generation import token_passes
from nextgpt_pl.generation.decoding import Decoding
from nextgpt_pl.generation.prepared import Prepared
from nextgpt_pl.generation.token_passes import passes
from nextgpt_pl.modality import Modality

END, FIRST = 1, 10
LENGTHS = [3, 40, 4, 5, 6, 12]  # tokens until a row may end, spans not counted
SPANS = {Modality.IMAGE: (20, 21, 22), Modality.AUDIO: (23, 24, 25, 26, 27)}
SIGNALS = {token for span in SPANS.values() for token in span}
SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def _model(kind="llama", **generation):
    torch.manual_seed(0)
    options = {"vocab_size": 32, "initializer_range": 0.5, **SIZES}
    if kind == "llama":
        model = LlamaForCausalLM(LlamaConfig(**options))
    else:
        model = MistralForCausalLM(MistralConfig(**options, sliding_window=5, num_key_value_heads=2))
    for name, value in generation.items():
        setattr(model.generation_config, name, value)
    return model.eval()


class _Rules(WholeSpans):
    """The first token of a row tells after how many tokens outside of spans it ends."""

    def forbidden(self, ids):
        free = [token for token in ids if token not in SIGNALS]
        if not free:
            return tuple(i for i in range(32) if not FIRST <= i < FIRST + len(LENGTHS))
        if len(free) + 1 >= LENGTHS[free[0] - FIRST]:
            return tuple(i for i in range(32) if i != END)
        return (*super().forbidden(ids), END, *range(FIRST, FIRST + 6))


def _replies(model, rows, limit=300, collective=False, stop=(), **decoding):
    """Per row its ids and states, and the rows and columns of each pass."""
    every = torch.randn(len(LENGTHS), 7, 32, generator=torch.Generator().manual_seed(1))
    lengths = [7 - row for row in rows]
    shapes, replies = [], {}
    hook = model.model.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.last_hidden_state.shape[:2])))
    rules = _Rules(SPANS, frozenset(SPANS), (), (END,))
    sampling = Decoding(**decoding)
    generate = partial(model.generate, eos_token_id=[END], pad_token_id=0, **sampling.sampling())
    prepared = Prepared(every[rows], lengths, rules, limit, generate)
    decode = SimpleNamespace(pad_token_id=0, decode=lambda ids: "".join(chr(97 + i) for i in ids))
    llm = SimpleNamespace(model=model, tokenizer=decode, stop=stop, collective=collective)
    try:
        for steps in passes(llm, prepared, sampling):
            for step in steps:
                ids, states = replies.setdefault(step.row, ([], []))
                ids += step.tokens
                states.append(step.states)
                assert len(step.states) == len(step.tokens)
    finally:
        hook.remove()
    out = [(replies[row][0], torch.cat(replies[row][1])) for row in range(len(rows))]
    return out, shapes, [prompt[7 - length :] for prompt, length in zip(every[rows], lengths, strict=True)]


@torch.no_grad()
def _check_states(model, prompts, out):
    """The states before each token are those of a pass over prompt and reply alone."""
    for prompt, (ids, states) in zip(prompts, out, strict=True):
        whole = torch.cat([prompt, model.get_input_embeddings()(torch.tensor(ids))])
        expected = model.model(inputs_embeds=whole[None]).last_hidden_state[0, -len(ids) - 1 : -1]
        torch.testing.assert_close(states, expected, atol=1e-4, rtol=1e-3)


def _whole(ids):
    """Whether signal tokens occur in complete spans only."""
    ids = list(ids)
    while ids:
        span = next((span for span in SPANS.values() if ids[0] == span[0]), ids[:1])
        if tuple(ids[: len(span)]) != tuple(span) or (ids[0] in SIGNALS and len(span) == 1):
            return False
        ids = ids[len(span) :]
    return True


@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_every_row_is_written_as_if_it_were_alone(kind):
    model = _model(kind)
    together, shapes, prompts = _replies(model, list(range(6)))
    for row, (ids, _) in enumerate(together):
        (alone,), _, _ = _replies(model, [row])
        assert alone[0] == ids
        assert ids[-1] == END
        assert _whole(ids)
    assert any(SIGNALS & set(ids) for ids, _ in together)
    _check_states(model, prompts, together)
    assert shapes[0] == (6, 7)


def test_spans_are_read_in_one_pass_and_rows_that_have_ended_leave():
    together, shapes, _ = _replies(_model(), list(range(6)))
    longest = max(len(ids) for ids, _ in together)
    free = max(len([i for i in ids if i not in SIGNALS or i in {20, 23}]) for ids, _ in together)
    assert len(shapes) == free < longest
    rows = [count for count, _ in shapes]
    assert rows == sorted(rows, reverse=True)
    assert rows[-1] == 1
    assert max(width for _, width in shapes[1:]) in {3, 5}


def test_models_with_a_sliding_window_read_token_by_token():
    together, shapes, _ = _replies(_model("mistral"), list(range(6)))
    assert {width for _, width in shapes[1:]} == {1}
    assert {count for count, _ in shapes} == {6}
    assert any(SIGNALS & set(ids) for ids, _ in together)


@pytest.mark.parametrize("limit", [1, 2, 7, 35])
def test_the_limit_holds(limit):
    model = _model()
    whole, _, _ = _replies(model, list(range(6)))
    cut, _, prompts = _replies(model, list(range(6)), limit=limit)
    assert [ids for ids, _ in cut] == [ids[:limit] for ids, _ in whole]
    _check_states(model, prompts, cut)


def test_penalties_of_the_model_see_each_reply_alone():
    model = _model(repetition_penalty=1.5)
    together, _, _ = _replies(model, list(range(6)))
    for row, (ids, _) in enumerate(together):
        (alone,), _, _ = _replies(model, [row])
        assert alone[0] == ids
    assert [ids for ids, _ in together] != [ids for ids, _ in _replies(_model(), list(range(6)))[0]]


def test_sampling_repeats_by_seed():
    model = _model()

    def sampled(seed):
        return [ids for ids, _ in _replies(model, list(range(6)), temperature=1.0, seed=seed)[0]]

    assert sampled(3) == sampled(3)
    assert sampled(3) != sampled(4)


def test_a_stop_string_ends_a_row():
    model = _model()
    whole, _, _ = _replies(model, [1])
    third = chr(97 + whole[0][0][2])
    (stopped,), _, _ = _replies(model, [1], stop=(third,))
    assert stopped[0] == whole[0][0][: len(stopped[0])]
    assert len(stopped[0]) <= 3 + 5


def test_collective_passes_go_on_while_another_rank_has_rows(monkeypatch):
    model = _model()
    alone, shapes, _ = _replies(model, [0, 2])
    rest = iter([True] * (len(shapes) + 4))
    monkeypatch.setattr(token_passes, "any_rank", lambda active, _: next(rest, False) or active)
    collective, more, _ = _replies(model, [0, 2], collective=True)
    assert [ids for ids, _ in collective] == [ids for ids, _ in alone]
    assert len(more) == len(shapes) + 5
    assert {count for count, _ in more} == {2}
