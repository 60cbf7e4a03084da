import numpy as np
import pytest
import torch

from nextgpt_pl.dialogue.signal_spans import WholeSpans, find_spans
from nextgpt_pl.generation import generate as generation
from nextgpt_pl.generation.decoding import Decoding
from nextgpt_pl.generation.prepared import prompt_of
from nextgpt_pl.generation.signals import Written, caption_embeddings
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import CaptionedPair, Dialogue, Message, TextPart

IDS = {Modality.IMAGE: [10, 11, 12], Modality.AUDIO: [13, 14]}
END = 1


def _scores(allowed=tuple(IDS), required=()):
    return WholeSpans(IDS, frozenset(allowed), tuple(required), (END,))


def test_a_span_once_begun_is_forced_to_its_end():
    scores = _scores()(torch.tensor([[5, 10], [5, 11], [5, 12]]), torch.zeros(3, 16))
    assert scores[0].argmax() == 11
    assert scores[1].argmax() == 12
    assert torch.isfinite(scores[:2]).sum() == 2
    assert torch.isfinite(scores[2, [10, 13]]).all()


def test_a_stray_or_forbidden_signal_token_cannot_be_chosen():
    scores = _scores(allowed=[Modality.AUDIO])(torch.tensor([[5]]), torch.zeros(1, 16))
    assert torch.isfinite(scores[0, 13])
    assert torch.isinf(scores[0, [10, 11, 12, 14]]).all()
    assert torch.isfinite(scores[0, :10]).all()


def test_a_required_medium_takes_the_end_tokens_place_until_it_is_there():
    raw = torch.zeros(1, 16)
    raw[0, END] = 5.0
    processor = _scores(required=[Modality.IMAGE])
    assert processor(torch.tensor([[5]]), raw).argmax() == 10
    assert processor(torch.tensor([[10, 11, 12]]), raw).argmax() == END


def test_whole_spans_are_found_in_order_and_pieces_are_not():
    spans = find_spans([5, 10, 11, 12, 13, 14, 10, 11], IDS, offset=100)
    assert [(s.modality, s.start, s.stop) for s in spans] == [(Modality.IMAGE, 101, 104), (Modality.AUDIO, 104, 106)]


@pytest.fixture
def loaded(network):
    network.load()
    return network.eval()


def generate(*arguments):
    """The ids of the replies."""
    return [reply.ids for reply in generation.generate(*arguments)]


def _prompt(network, text):
    return network.conversation().render(
        Dialogue("x", (Message("user", (TextPart(text),)),)), add_generation_prompt=True
    )


def test_layers_that_were_put_off_are_read_before_anything_is_written(loaded):
    prompts = [_prompt(loaded, "Draw a red circle.")]
    whole = generate(loaded, prompts, Decoding(max_new_tokens=6, modalities=[]))
    loaded.load(llm_layers=False)
    assert not any(".layers." in name for name, _ in loaded.llm.named_parameters())
    assert generate(loaded.eval(), prompts, Decoding(max_new_tokens=6, modalities=[])) == whole


def test_untrained_models_write_no_malformed_span(loaded):
    """The signal rows are random and sampling is hot: without force, spans would be salad."""
    with torch.no_grad():
        loaded.llm.model.get_output_embeddings().rows.mul_(30.0)
    prompts = [_prompt(loaded, f"Draw {i} things.") for i in range(8)]
    signal = loaded.conversation().signal_ids
    every = {i for ids in signal.values() for i in ids}
    found = 0
    for seed in range(3):
        for ids in generate(loaded, prompts, Decoding(max_new_tokens=40, temperature=3.0, seed=seed)):
            spans = find_spans(ids, signal)
            covered = {p for s in spans for p in range(s.start, s.stop)}
            assert {p for p, token in enumerate(ids) if token in every} == covered
            found += len(spans)
    assert found > 5


def test_replies_do_not_depend_on_the_batch_and_repeat_by_seed(loaded):
    prompts = [_prompt(loaded, text) for text in ("Hello!", "Which shapes do you know? Say them all, please.")]
    together = generate(loaded, prompts)
    assert together == [generate(loaded, [p])[0] for p in prompts]
    hot = Decoding(temperature=1.0, seed=7)
    assert generate(loaded, prompts, hot) == generate(loaded, prompts, hot)


def test_forced_and_forbidden_modalities(loaded):
    prompts = [_prompt(loaded, "Hello!")]
    signal = loaded.conversation().signal_ids
    (ids,) = generate(loaded, prompts, Decoding(modalities=[Modality.VIDEO, Modality.AUDIO]))
    assert {s.modality for s in find_spans(ids, signal)} == {Modality.VIDEO, Modality.AUDIO}
    # the length limit cuts no medium off that must be there
    (ids,) = generate(loaded, prompts, Decoding(max_new_tokens=2, modalities=[Modality.VIDEO, Modality.AUDIO]))
    assert {s.modality for s in find_spans(ids, signal)} == {Modality.VIDEO, Modality.AUDIO}
    (ids,) = generate(loaded, prompts, Decoding(modalities=[]))
    assert not find_spans(ids, signal)


def test_a_prompt_ends_where_the_labels_begin_and_embeddings_are_those_of_training(loaded):
    """What generation hands to a decoder equals what the stage trains, for the same tokens."""
    pair = CaptionedPair("k", Modality.IMAGE, "a small red circle on the left on white")
    row = loaded.conversation()(pair)
    prompt = prompt_of(row)
    assert row.labels[len(prompt.input_ids)] == row.input_ids[len(prompt.input_ids)]
    assert set(prompt.labels) == {-100}
    from nextgpt_pl.dialogue.batching import pad

    batch = pad([row], 0)
    embeddings = loaded.embed(batch)
    with torch.no_grad():
        expected = loaded.project(
            Modality.IMAGE, loaded.hidden_states(batch, embeddings), embeddings, batch.spans[Modality.IMAGE]
        )
    ((found,),) = caption_embeddings(loaded, [Written(row)])
    np.testing.assert_allclose(found.numpy(), expected[0].numpy(), atol=1e-5)
