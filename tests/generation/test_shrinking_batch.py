from functools import partial

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from nextgpt_pl.generation.shrinking_batch import Waste, write
from nextgpt_pl.llm.recording import recorded

END, FIRST = 1, 10
LENGTHS = {FIRST + row: length for row, length in enumerate([3, 40, 4, 5, 6, 12])}


@pytest.fixture
def llama():
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=32, initializer_range=0.5, **sizes)).eval()


def _rules(first):
    """Rows begin with these tokens, and end at a length that the first one tells; what lies between is the model's."""

    def rule(ids, scores):
        scores = scores.clone()
        scores[:, END] = -torch.inf
        for row, so_far in enumerate(ids.tolist()):
            forced = first[row] if not so_far else END if len(so_far) + 1 == LENGTHS[so_far[0]] else None
            if forced is not None:
                scores[row], scores[row, forced] = -torch.inf, 0.0
        return scores

    return rule


def _write(llama, rows, shrink=True, limit=50, **sampling):
    """What is written after prompts of different lengths, and how many rows and tokens each pass reads."""
    every = torch.randn(len(LENGTHS), 7, 32, generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(7) >= torch.arange(len(LENGTHS)).unsqueeze(1)).long()
    passes = []
    hook = llama.model.register_forward_hook(lambda _, __, out: passes.append(out.last_hidden_state.shape[:2]))

    def generate(**arguments):
        return llama.generate(eos_token_id=[END], pad_token_id=0, **{"do_sample": False, **sampling}, **arguments)

    rule = _rules([FIRST + row for row in rows])
    try:
        prompts = (every[rows], mask[rows])
        record = partial(recorded, llama.model)
        out = write(generate, llama.get_input_embeddings(), record, *prompts, rule, (END,), limit, shrink)
    finally:
        hook.remove()
    _check_states(llama, *prompts, out)
    return [ids[: ids.index(END)] if END in ids else ids for ids, _ in out], passes


@torch.no_grad()
def _check_states(llama, prompts, mask, out):
    """The states of each row's tokens are those of a pass over its prompt and reply alone."""
    for prompt, used, (ids, states) in zip(prompts, mask, out, strict=True):
        assert len(states) == len(ids) - 1
        whole = torch.cat([prompt[used.bool()], llama.get_input_embeddings()(torch.tensor(ids))])
        expected = llama.model(inputs_embeds=whole[None]).last_hidden_state[0, -len(ids) : -1]
        count = ids.index(END) if END in ids else len(ids) - 1  # padding follows
        torch.testing.assert_close(states[:count], expected[:count], atol=1e-5, rtol=1e-4)


def test_every_row_is_written_as_if_it_were_alone(llama):
    together, passes = _write(llama, list(range(6)))
    assert together == [_write(llama, [row])[0][0] for row in range(6)]
    assert [len(ids) + 1 for ids in together] == list(LENGTHS.values())
    assert passes[0] == (6, 7)
    assert passes[-1] == (1, 1)


def test_rows_that_have_ended_cost_at_most_what_was_saved(llama):
    _, shrinking = _write(llama, list(range(6)))
    whole, constant = _write(llama, list(range(6)), shrink=False)
    assert {rows for rows, _ in constant} == {6}
    assert len(whole[1]) == 39
    spent, without = (sum(rows * length for rows, length in passes) for passes in (shrinking, constant))
    assert spent < 0.75 * without


def test_the_limit_holds_for_what_goes_on_in_a_smaller_batch(llama):
    cut, passes = _write(llama, list(range(6)), limit=35)
    assert [len(ids) for ids in cut] == [2, 35, 3, 4, 5, 11]
    assert passes[-1] == (1, 1)


def test_sampling_repeats_by_seed(llama):
    def sampled(seed):
        torch.manual_seed(seed)
        found, passes = _write(llama, list(range(6)), do_sample=True)
        assert passes[-1] == (1, 1)
        return found

    assert sampled(3) == sampled(3)
    assert sampled(3) != sampled(4)


def test_rows_stay_until_the_ended_ones_have_cost_more_than_reading_the_others_anew():
    waste = Waste(torch.tensor([END]), read=2)
    ids = torch.tensor([[5, END, 0, 0, 0, 0], [5, 6, 7, 8, 9, 10]])
    stopped = [bool(waste(ids[:, :width], torch.empty(0)).all()) for width in range(1, 7)]
    assert stopped == [False] * 6
    more = torch.tensor([[5, END, 0, 0, 0, 0]] * 3 + [[5, 6, 7, 8, 9, 10]])
    waste = Waste(torch.tensor([END]), read=2)
    stopped = [bool(waste(more[:, :width], torch.empty(0)).any()) for width in range(1, 7)]
    assert stopped == [False, False, True, True, True, True]  # 3, 6 steps against 4, 5, 6, 7, 8 tokens
