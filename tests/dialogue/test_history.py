"""The assistant's media of earlier turns, as later turns see them: ids, labels, slots and spans of each form."""

from dataclasses import replace
from pathlib import Path

import pytest

from nextgpt_pl.batches import IGNORE
from nextgpt_pl.dialogue.context import shortened
from nextgpt_pl.dialogue.conversation import Conversation
from nextgpt_pl.dialogue.history import learned_ranges
from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import Dialogue, Media, MediaPart, Message, TextPart

IMAGE, AUDIO = Modality.IMAGE, Modality.AUDIO
SIGNALS = {IMAGE: [900, 901, 902, 903], AUDIO: [910]}
PICTURE = Media(IMAGE, Path("made.png"))


def _user(text):
    return Message("user", (TextPart(text),))


def _made(modality, before="Here: ", behind=" Good?", media=PICTURE):
    return Message("assistant", (TextPart(before), MediaPart(modality, media, "a ring"), TextPart(behind)))


LAST = _made(IMAGE, media=replace(PICTURE, source=Path("last.png")))
YES = Message("assistant", (TextPart("Yes."),))
TALK = Dialogue("talk", (_user("Draw."), _made(IMAGE), _user("Thanks."), YES, _user("Again."), LAST))


@pytest.fixture
def conversation(pocket_tokenizer):
    return Conversation(pocket_tokenizer, SIGNALS, {IMAGE: 3})


def _form(conversation, **changes):
    return Conversation(conversation.tokenizer, SIGNALS, {IMAGE: 3}, **changes)


def _learned(row):
    """Ids with a label, in order."""
    assert all(label in (IGNORE, token) for token, label in zip(row.input_ids, row.labels, strict=True))
    return [label for label in row.labels if label != IGNORE]


def _text(conversation, row):
    """The row's text, with ``S`` for signal tokens and ``*`` for the positions of a slot."""
    slots = {i for slot in row.slots for i in range(slot.start, slot.stop)}
    signals = {i for ids in SIGNALS.values() for i in ids}
    decode, text, plain = conversation.tokenizer.decode, "", []
    for position, token in enumerate(row.input_ids):
        mark = "*" if position in slots else "S" if token in signals else ""
        plain = plain if mark else [*plain, token]
        if mark:
            text, plain = text + decode(plain) + mark, []
    return text + decode(plain)


CONTEXTS = {"features": "Here: *** Good?", "both": "Here: SSSS*** Good?"}


@pytest.mark.parametrize("form", CONTEXTS)
def test_a_turn_is_learned_as_it_is_written_and_seen_later_in_the_other_form(conversation, form):
    start = "<|bos|><|user|>Draw.<|eos|><|assistant|>"
    first, second = _form(conversation, media_in_history=form).rows(TALK)
    assert _text(conversation, first) == f"{start}Here: SSSS Good?<|eos|>"
    rest = "<|user|>Thanks.<|eos|><|assistant|>Yes.<|eos|><|user|>Again.<|eos|><|assistant|>Here: SSSS Good?<|eos|>"
    assert _text(conversation, second) == f"{start}{CONTEXTS[form]}<|eos|>{rest}"
    assert not first.slots
    (slot,) = second.slots
    assert (slot.modality, slot.stop - slot.start, slot.media) == (IMAGE, 3, PICTURE)
    assert second.input_ids[slot.start : slot.stop] == [conversation.pad_token_id] * 3
    # what a row teaches begins with the turn behind its context
    assert not [i for i, label in enumerate(second.labels) if label != IGNORE and i < slot.stop + 3]
    assert [(span.caption, span.media.source.name) for span in first.spans] == [("a ring", "made.png")]
    assert [(span.caption, span.media.source.name) for span in second.spans] == [("a ring", "last.png")]
    (span,) = second.spans
    assert second.input_ids[span.start : span.stop] == SIGNALS[IMAGE]


@pytest.mark.parametrize("form", CONTEXTS)
def test_what_is_learned_is_the_same_in_each_form(conversation, form):
    (whole,) = conversation.rows(TALK)
    assert whole == conversation(TALK)
    rows = _form(conversation, media_in_history=form).rows(TALK)
    assert [i for row in rows for i in _learned(row)] == _learned(whole)
    assert [s.caption for row in rows for s in row.spans] == [s.caption for s in whole.spans]


@pytest.mark.parametrize("form", ["signals", *CONTEXTS])
def test_a_reply_is_learned_in_the_context_in_which_it_is_generated(conversation, form):
    conversation = _form(conversation, media_in_history=form)
    last = conversation.rows(TALK)[-1]
    prompt = conversation.prompt(replace(TALK, messages=TALK.messages[:-1]))
    assert last.input_ids[: len(prompt.input_ids)] == prompt.input_ids
    assert prompt.slots == last.slots
    assert last.labels[len(prompt.input_ids)] == last.input_ids[len(prompt.input_ids)]


@pytest.mark.parametrize("form", ["signals", *CONTEXTS])
def test_a_message_that_is_not_learned_is_context(conversation, form):
    shown = replace(_made(IMAGE), learned=False)
    talk = Dialogue("talk", (_user("Draw."), shown, _user("Again."), LAST))
    (row,) = _form(conversation, media_in_history=form).rows(talk)
    seen = {**CONTEXTS, "signals": "Here: SSSS Good?"}[form]
    start = f"<|bos|><|user|>Draw.<|eos|><|assistant|>{seen}<|eos|><|user|>Again.<|eos|><|assistant|>"
    assert _text(conversation, row) == f"{start}Here: SSSS Good?<|eos|>"
    (learned,) = conversation.rows(Dialogue("last", (_user("Again."), LAST)))
    assert _learned(row) == _learned(learned)
    assert [span.media.source.name for span in row.spans] == ["last.png"]
    assert [slot.media for slot in row.slots] == [PICTURE] * (form != "signals")


def test_media_that_no_encoder_reads_stay_signals(conversation):
    sound = Dialogue("x", (_user("Draw."), _made(AUDIO), _user("And?"), YES))
    plain = conversation.rows(sound)
    assert _form(conversation, media_in_history="features").rows(sound) == plain
    # with an image beside it, the turn is context of another row: its signals are there, and not learned twice
    reply = Message("assistant", (*_made(AUDIO).parts, *_made(IMAGE).parts))
    both = replace(sound, messages=(sound.messages[0], reply, *sound.messages[2:]))
    first, second = _form(conversation, media_in_history="features").rows(both)
    assert [span.modality for span in first.spans] == [AUDIO, IMAGE]
    assert (second.spans, [s.modality for s in second.slots], 910 in second.input_ids) == ((), [IMAGE], True)
    assert 910 not in second.labels


def test_captions_between_signal_tokens_are_seen_in_both_forms(conversation):
    from nextgpt_pl.dialogue.reply_media import reply_media

    conversation = _form(conversation, media_in_history="both", reply_media=reply_media("captions"))
    first, second = conversation.rows(TALK)
    assert "Here: Sa ringS Good?" in _text(conversation, first)
    assert "Here: Sa ringS*** Good?" in _text(conversation, second)


def test_a_medium_without_a_file_is_an_error_only_where_it_is_shown(conversation):
    without = _made(IMAGE, media=None)
    last = Dialogue("row 7", (_user("Draw."), without))
    conversation = _form(conversation, media_in_history="features")
    assert len(conversation.rows(last)) == 1
    with pytest.raises(UserError, match=r"row 7: the assistant has made image, but the item has no file.*in_history"):
        conversation.rows(replace(last, messages=(*last.messages, _user("And?"), without)))


def test_the_longest_row_decides_what_is_dropped(conversation):
    conversation = _form(conversation, media_in_history="both")
    longest = max(len(row.input_ids) for row in conversation.rows(TALK))
    assert shortened(TALK, conversation.rows, longest)[1] == ()
    rows, dropped = shortened(TALK, conversation.rows, longest - 1)
    assert (dropped, len(rows)) == ((0, 1), 1)


def test_turns_of_one_speaker_that_follow_each_other():
    talk = Dialogue("x", (_made(IMAGE), _made(IMAGE), _user("And?")))
    assert learned_ranges(talk, {IMAGE}) == [range(0, 1), range(1, 3)]
    assert learned_ranges(talk, {AUDIO}) == [range(0, 3)]
    assert learned_ranges(Dialogue("x", (_user("Hi."),)), {IMAGE}) == [range(0, 1)]
