import pytest
import torch

from nextgpt_pl.errors import UserError
from nextgpt_pl.losses import word_coverage
from nextgpt_pl.projections import MLPInputProjection, WordInputProjection


def _projection(**arguments):
    torch.manual_seed(0)
    projection = WordInputProjection(8, 16, width=12, **arguments)
    projection.use_words(torch.randn(20, 16))
    return projection


def test_tokens_are_mixtures_of_words_and_words_are_in_no_checkpoint():
    projection = _projection(expand=3)
    features = torch.randn(2, 5, 8)
    out = projection(features)
    assert out.shape == (2, projection.tokens(5), 16)
    shares = projection.word_log_probs(features).exp()
    assert torch.allclose(shares.sum(-1), torch.ones(2, 15))
    assert torch.allclose(out, shares @ projection.words, atol=1e-6)
    assert "words" not in projection.state_dict()
    assert "words" not in dict(projection.named_parameters())
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in projection.parameters())


def test_without_words_it_says_what_is_missing():
    with pytest.raises(RuntimeError, match="use_words"):
        WordInputProjection(8, 16)(torch.randn(1, 1, 8))
    with pytest.raises(ValueError, match="expand=0"):
        WordInputProjection(8, 16, expand=0)


def test_coverage_is_zero_when_every_word_is_held_and_wants_rare_words_more():
    present = torch.tensor([[True, True, False], [True, False, True]])
    held = torch.tensor([[[0.9, 0.05, 0.05], [0.1, 0.9, 1e-6]], [[1e-6, 1e-6, 1.0], [1.0, 1e-6, 1e-6]]])
    assert word_coverage(held.log(), present) < 0.1
    common_only = torch.tensor([[[0.98, 0.01, 0.01]] * 2, [[0.98, 0.01, 0.01]] * 2])
    rare_only = torch.tensor([[[0.01, 0.98, 0.01]] * 2, [[0.01, 0.01, 0.98]] * 2])
    # the first word is in every caption: it tells nothing, and whether it is held does not matter
    assert word_coverage(rare_only.log(), present) < 0.05 < 3 < word_coverage(common_only.log(), present)


def test_words_are_learned_from_captions_alone():
    projection = _projection(expand=2)
    features, present = torch.eye(8).unsqueeze(1), torch.zeros(8, 20, dtype=torch.bool)
    for index in range(8):
        present[index, [index, 8 + index]] = True
    optimizer = torch.optim.AdamW(projection.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        word_coverage(projection.word_log_probs(features), present).backward()
        optimizer.step()
    chosen = projection.word_log_probs(features).argmax(-1)
    assert [set(c) for c in chosen.tolist()] == [{i, 8 + i} for i in range(8)]


def test_the_model_gives_the_llms_words_and_refuses_other_projections(network):
    from nextgpt_pl.encoders import ImageBindEncoder
    from nextgpt_pl.modality import GENERATED
    from nextgpt_pl.pocket import items

    network.encoder = ImageBindEncoder("pocket:encoder", video_clips=4, audio_clips=1)
    network.input_projection_factory = lambda c, h: WordInputProjection(c, h, width=16, expand=4)
    network.load()
    assert torch.equal(network.input_projections["image"].words, network.llm.word_embeddings())
    conversation = network.conversation("comprehension")
    from nextgpt_pl.batching import pad

    rows = [conversation(items.captioned_pair("train", m, 0)) for m in GENERATED]
    batch = pad(rows, conversation.pad_token_id)
    network.word_coverage(batch).backward()
    assert all(p.mlp[0].weight.grad.abs().sum() > 0 for p in network.input_projections.values())
    network.input_projections["image"] = MLPInputProjection(128, 256, width=8)
    with pytest.raises(UserError, match="MLPInputProjection knows no words"):
        network.word_coverage(batch)
