"""Spans of words beside whole spans: rules of generation, what is found in a reply, and training rows."""

from pathlib import Path

import pytest
import torch

from nextgpt_pl.batches import IGNORE
from nextgpt_pl.dialogue.caption_spans import WordLimits
from nextgpt_pl.dialogue.conversation import Conversation
from nextgpt_pl.dialogue.reply_media import ReplyMedia
from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import Dialogue, Media, MediaPart, Message, TextPart

IMAGE, SPEECH = Modality.IMAGE, Modality.SPEECH
IDS = {IMAGE: [20, 21, 22], SPEECH: [23, 24]}
END, WORD, EVERY = 1, 7, set(range(30))
MEDIA = ReplyMedia({SPEECH: WordLimits(1, 3)})


def _rules(allowed=tuple(IDS), required=()):
    return MEDIA.rules(IDS, frozenset(allowed), tuple(required), (END,))


def _allowed(ids, **options):
    scores = _rules(**options)(torch.tensor([ids]), torch.zeros(1, 30))[0]
    return set(torch.isfinite(scores).nonzero()[:, 0].tolist())


def test_outside_of_spans_each_medium_may_begin():
    assert _allowed([5]) == EVERY - {21, 22, 24}
    assert _allowed([5], allowed=[SPEECH]) == EVERY - {20, 21, 22, 24}
    assert _allowed([23, WORD, 24]) == EVERY - {21, 22, 24}


def test_a_span_of_words_has_a_word_holds_no_other_tokens_and_never_nests():
    assert _allowed([23]) == EVERY - {END, 20, 21, 22, 23, 24}
    assert _allowed([23, WORD]) == EVERY - {END, 20, 21, 22, 23}
    assert _allowed([20, 21, 22, 23, WORD]) == EVERY - {END, 20, 21, 22, 23}


def test_a_span_of_words_is_closed_at_the_maximum_and_a_whole_span_is_completed():
    assert _allowed([23, WORD, WORD, WORD]) == {24}
    assert _allowed([23, WORD, 24, 20]) == {21}
    assert _rules().forced([20]) == [21, 22]


def test_a_reply_that_is_cut_off_has_whole_spans_only():
    assert _rules().whole_reply([5, 23, WORD]) == [5, 23, WORD, 24]
    assert _rules().whole_reply([5, 20]) == [5, 20, 21, 22]
    # without a word there is nothing to say
    assert _rules().whole_reply([5, 23]) == [5]
    assert _rules(required=[SPEECH, IMAGE]).whole_reply([5, END]) == [5, 20, 21, 22]


def test_a_required_span_of_words_begins_in_the_place_of_the_end():
    scores = torch.zeros(1, 30)
    scores[0, END] = 9.0
    constrained = _rules(required=[SPEECH])(torch.tensor([[5]]), scores)[0]
    assert int(constrained.argmax()) == 23
    assert int(_rules(required=[SPEECH])(torch.tensor([[23, WORD, 24]]), scores)[0].argmax()) == END


def test_both_kinds_of_spans_are_found_in_order():
    ids = [23, 7, 8, 24, 5, 20, 21, 22, 23, 9, 24, 23]
    spans = MEDIA.find(ids, IDS, lambda words: f" {words} ", 100)
    assert [(s.modality, s.start, s.stop, s.caption) for s in spans] == [
        (SPEECH, 100, 104, "[7, 8]"),
        (IMAGE, 105, 108, ""),
        (SPEECH, 108, 111, "[9]"),
    ]


SIGNALS = {IMAGE: [900, 901], SPEECH: [910, 911]}
SOUND = Media(SPEECH, Path("said.wav"))


def _conversation(tokenizer, most=64, **changes):
    media = ReplyMedia({SPEECH: WordLimits(1, most)})
    return Conversation(tokenizer, SIGNALS, {SPEECH: 3}, reply_media=media, **changes)


def _talk(words="a red ring"):
    said = Message("assistant", (TextPart("Well: "), MediaPart(SPEECH, SOUND, words), MediaPart(IMAGE, None, "ring")))
    user = Message("user", (TextPart("Draw."),))
    return Dialogue("talk", (user, said, user, said))


def _learned(row):
    return [label for label in row.labels if label != IGNORE]


def test_the_words_and_the_tokens_around_them_are_learned_and_only_the_image_is_projected(pocket_tokenizer):
    row = _conversation(pocket_tokenizer)(_talk())
    labels = _learned(row)
    start, stop = labels.index(910), labels.index(911)
    assert pocket_tokenizer.decode(labels[start + 1 : stop]) == "a red ring"
    assert labels[stop + 1 : stop + 3] == [900, 901]
    assert [(span.modality, span.stop - span.start) for span in row.spans] == [(IMAGE, 2)] * 2


@pytest.mark.parametrize("form", ["features", "both"])
def test_earlier_turns_show_the_sound_in_the_form_of_the_history(pocket_tokenizer, form):
    conversation = _conversation(pocket_tokenizer, media_in_history=form)
    first, second = conversation.rows(_talk())
    assert not first.slots
    (slot,) = second.slots
    assert (slot.modality, slot.stop - slot.start, slot.media) == (SPEECH, 3, SOUND)
    assert second.input_ids[: slot.start].count(910) == (form == "both")
    assert _learned(first) == _learned(second)


def test_words_that_a_decoder_cannot_be_told_are_refused(pocket_tokenizer):
    with pytest.raises(UserError, match="talk: the assistant's speech has no words"):
        _conversation(pocket_tokenizer)(_talk(" "))
    with pytest.raises(UserError, match=r"has \d+ tokens of words, at most 2 are allowed \(max_tokens of network"):
        _conversation(pocket_tokenizer, most=2)(_talk("a very large red ring on the left"))


def test_a_span_of_words_needs_two_tokens():
    with pytest.raises(UserError, match=r"num_signal_tokens\.speech=1"):
        MEDIA.check_count(SPEECH, 1)
