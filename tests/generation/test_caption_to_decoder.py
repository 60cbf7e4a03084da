import pytest
import torch

from nextgpt_pl.batches import IGNORE
from nextgpt_pl.dialogue.batching import pad
from nextgpt_pl.dialogue.caption_spans import LONGEST, CaptionSpans, find_captions
from nextgpt_pl.errors import UserError
from nextgpt_pl.generation.decoding import Decoding
from nextgpt_pl.generation.replies import parts_of
from nextgpt_pl.generation.signals import Written, caption_embeddings
from nextgpt_pl.llm import CausalLM, LoRA
from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.model import NextGPT
from nextgpt_pl.pipeline import AnyToAny
from nextgpt_pl.pocket.parts import pocket_decoder
from nextgpt_pl.pocket.world import dialogues
from nextgpt_pl.samples import Dialogue, MediaPart, Message, ReplyPart, TextPart
from nextgpt_pl.stages import DecoderAlignment, InstructionTuning

IDS = {Modality.IMAGE: [20, 21, 22], Modality.AUDIO: [23, 24]}
END = 1


def _rules(allowed=tuple(IDS), required=()):
    return CaptionSpans(IDS, frozenset(allowed), tuple(required), (END,))


def _allowed(ids, **options):
    return set(torch.isfinite(_rules(**options)(torch.tensor([ids]), torch.zeros(1, 30))[0]).nonzero()[:, 0].tolist())


def test_inside_a_span_words_and_its_own_end_alone_may_follow():
    assert _allowed([5, 20, 7]) == set(range(30)) - {END, 20, 21, 23, 24}
    assert _allowed([5, 20, 7, 22]) == set(range(30)) - {21, 22, 24}
    assert _allowed([5], allowed=[Modality.AUDIO]) == set(range(30)) - {20, 21, 22, 24}


def test_a_caption_is_closed_where_it_grows_too_long_and_at_the_replys_end():
    assert _allowed([20, *[7] * LONGEST]) == {22}
    assert _rules().whole_reply([5, 20, 7, 8]) == [5, 20, 7, 8, 22]
    assert _rules(required=[Modality.AUDIO]).whole_reply([5, END, 9]) == [5, 23, 24]


def test_captions_are_found_in_order():
    spans = find_captions([5, 20, 7, 8, 22, 23, 24, 20, 9], IDS, lambda ids: f" {ids} ", offset=100)
    assert [(s.modality, s.start, s.stop, s.caption) for s in spans] == [
        (Modality.IMAGE, 101, 105, "[7, 8]"),
        (Modality.AUDIO, 105, 107, "[]"),
    ]


@pytest.fixture
def network():
    """Not loaded."""
    torch.manual_seed(0)
    return NextGPT(
        CausalLM("pocket:llm"), decoders={m.value: pocket_decoder(m) for m in GENERATED}, media_as="captions"
    )


def test_captions_are_labelled_and_nothing_is_projected(network):
    item = dialogues.dialogue("text->image", "train", 0)
    row = network.conversation()(item)
    caption = next(part.caption for part in item.messages[-1].parts if getattr(part, "caption", None))
    labels = [label for label in row.labels if label != IGNORE]
    assert caption in network.llm.tokenizer.decode(labels)
    opening, closing = network.signal_ids()[Modality.IMAGE][0], network.signal_ids()[Modality.IMAGE][-1]
    assert labels.index(opening) < labels.index(closing)
    assert not row.spans
    network.load()
    assert not network.output_projections


def test_it_learns_to_write_the_caption_and_the_decoder_reads_it(network):
    """Overfitted on one exchange, the reply's caption is that of the item and its embedding the text encoder's."""
    stage = InstructionTuning(network, lora=LoRA(dropout=0.0), lr=2e-3, samples=0)
    stage.trains = tuple(p for p in stage.trains if not p.startswith("input"))  # there is no encoder
    stage.configure_model()
    stage.log_split = lambda *_: None
    wanted = "a large red ring on white"
    answer = Message("assistant", (TextPart("Here."), MediaPart(Modality.IMAGE, caption=wanted)))
    conversation = network.conversation()
    row = conversation(Dialogue("ring", (Message("user", (TextPart("Draw a red ring."),)), answer)))
    batch = pad([row], conversation.pad_token_id)
    optimizer = torch.optim.AdamW(stage.parameter_groups())
    for _ in range(60):
        optimizer.zero_grad()
        stage.model_step(batch, "train").backward()
        optimizer.step()
    chat = AnyToAny(network)
    (row,) = chat.write([[{"role": "user", "content": "Draw a red ring."}]], Decoding())
    assert [span.caption for span in row.spans] == [wanted]
    found = caption_embeddings(network, [Written(row)])[0][0]
    torch.testing.assert_close(found, network.decoders[Modality.IMAGE].embed_captions([wanted])[0])
    (part,) = [p for p, span in parts_of(network, row) if span is not None]
    assert part == ReplyPart("image", caption=wanted, tokens=row.spans[0].stop - row.spans[0].start)


def test_nothing_is_left_to_align(network):
    with pytest.raises(UserError, match="only InstructionTuning"):
        DecoderAlignment(network)
    with pytest.raises(UserError, match=r"num_signal_tokens\.image=1"):
        NextGPT(network.llm, num_signal_tokens={"image": 1}, media_as="captions")
