import pytest
import torch

from nextgpt_pl.errors import UserError
from nextgpt_pl.losses import spelling_loss
from nextgpt_pl.projections import MLPInputProjection, WordInputProjection
from nextgpt_pl.stages import EncoderAlignment


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


def _spells(*tokens, words=4):
    """Log-shares of tokens that surely are these words."""
    shares = torch.full((1, len(tokens), words), 1e-6)
    for place, word in enumerate(tokens):
        shares[0, place, word] = 1.0
    return shares.log()


def test_spelling_follows_the_order_of_the_words_and_lets_them_be_held():
    caption = [torch.tensor([2, 0, 1])]
    for spelled in ((2, 0, 1), (2, 2, 0, 1, 1), (2, 0, 0, 0, 1)):
        assert spelling_loss(_spells(*spelled), caption) < 1e-3
    for wrong in ((0, 2, 1), (2, 0, 0), (2, 0, 1, 3), (2, 0, 2, 1)):
        assert spelling_loss(_spells(*wrong), caption) > 3


def test_spelling_is_the_likelihood_of_all_readings_and_so_is_its_gradient():
    logits = torch.randn(1, 4, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    log_probs = logits.log_softmax(-1)  # two words of five are in the caption
    readings = ([0, 0, 0, 3], [0, 0, 3, 3], [0, 3, 3, 3])
    wanted = -torch.stack([log_probs[0, range(4), list(r)].sum() for r in readings]).logsumexp(0) / 2
    found = spelling_loss(log_probs, [torch.tensor([0, 3])])
    assert torch.allclose(found, wanted, atol=1e-5)
    assert torch.allclose(spelling_loss(log_probs, [torch.tensor([0, 3])], count=1.0), 2 * found)
    gradients = [torch.autograd.grad(loss, logits, retain_graph=True)[0] for loss in (found, wanted)]
    assert torch.allclose(*gradients, atol=1e-5)


def test_a_repeated_word_counts_once_and_a_long_caption_is_cut():
    assert spelling_loss(_spells(1, 2), [torch.tensor([1, 1, 2, 2])]) < 1e-3
    long = spelling_loss(_spells(1, 2), [torch.tensor([1, 2, 3, 0])])
    assert torch.isfinite(long)
    assert long < 1e-3


def test_words_are_learned_from_captions_alone():
    projection = _projection(expand=3)
    features = torch.eye(8).unsqueeze(1)
    captions = [torch.tensor([index, 8 + index]) for index in range(8)]
    optimizer = torch.optim.AdamW(projection.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        spelling_loss(projection.word_log_probs(features), captions).backward()
        optimizer.step()
    chosen = projection.word_log_probs(features).argmax(-1)
    assert [c.unique_consecutive().tolist() for c in chosen] == [[i, 8 + i] for i in range(8)]


def test_the_model_gives_the_llms_words_and_refuses_other_projections(network):
    from nextgpt_pl.encoders import ImageBindEncoder
    from nextgpt_pl.modality import GENERATED
    from nextgpt_pl.pocket.world import items

    network.encoder = ImageBindEncoder("pocket:encoder", video_clips=4, audio_clips=1)
    network.input_projection_factory = lambda c, h: WordInputProjection(c, h, width=16, expand=4)
    network.load()
    assert torch.equal(network.input_projections["image"].words, network.llm.word_embeddings())
    conversation = network.conversation("comprehension")
    from nextgpt_pl.dialogue.batching import pad
    from nextgpt_pl.stages.spelling import spelling

    rows = [conversation(items.captioned_pair("train", m, 0)) for m in GENERATED]
    batch = pad(rows, conversation.pad_token_id)
    loss, cut, count = spelling(network, batch)
    loss.backward()
    words = [[label for label in row.labels if label >= 0][:-1] for row in rows]  # without the end of the turn
    distinct = [len(torch.tensor(w).unique_consecutive()) for w in words]
    assert (cut, count) == (sum(d - 4 for d in distinct), sum(map(len, words)))
    assert all(p.mlp[0].weight.grad.abs().sum() > 0 for p in network.input_projections.values())
    network.input_projections["image"] = MLPInputProjection(128, 256, width=8)
    with pytest.raises(UserError, match=r"MLPInputProjection knows no words; set model\.word_steps=0"):
        EncoderAlignment(network, word_steps=1).extend_network()
    EncoderAlignment(network).extend_network()


def test_words_of_a_scaled_embedding_are_mixed_at_their_own_scale():
    torch.manual_seed(0)
    projection = WordInputProjection(8, 16, width=4, expand=2)
    table, features = torch.randn(20, 16), torch.randn(3, 1, 8)
    projection.use_words(table)
    mixed = projection(features)
    projection.use_words(table, scale=4.0)
    torch.testing.assert_close(projection(features), 4 * mixed)
    assert projection.words.data_ptr() == table.data_ptr()
