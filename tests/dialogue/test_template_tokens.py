"""Token ids of conversations are those of the whole template, whatever tokenizer there is."""

from pathlib import Path

import pytest
from trained_tokenizers import KINDS, make

from nextgpt_pl.batches import IGNORE
from nextgpt_pl.dialogue.conversation import Conversation
from nextgpt_pl.dialogue.reply_media import reply_media
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import Dialogue, Media, MediaPart, Message, TextPart

TEMPLATES = {
    "vicuna": (
        "{{ bos_token }}A chat. {% for m in messages %}{% if m.role == 'user' %}USER: {{ m.content }} "
        "{% else %}ASSISTANT: {{ m.content }}</s>"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
    ),
    "vicuna with a blank at the end": (
        "{% for m in messages %}{% if m.role == 'user' %}USER: {{ m.content }} {% else %}ASSISTANT: {{ m.content }}</s>"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}ASSISTANT: {% endif %}"
    ),
    "chatml": (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    "no special tokens, trimmed": (
        "{% for m in messages %}{{ 'Human' if m.role == 'user' else 'Assistant' }}: {{ m.content | trim }}\n###\n"
        "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
    ),
}
TURNS = (
    ("user", "Draw a small red circle on the left, please!"),
    ("assistant", "Here is a small red circle."),
    ("user", "  What is the colour?\n\nIt is éa 円 12  "),
    ("assistant", "It is red: the circle of a curious user"),
)
PICTURE = MediaPart(Modality.IMAGE, Media(Modality.IMAGE, Path("x.png")))
DRAWN = MediaPart(Modality.IMAGE, caption="a red ring")
SIGNALS = [9000, 9001]


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request, tmp_path_factory):
    return make(request.param, tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(params=TEMPLATES)
def conversation(request, tokenizer):
    tokenizer.chat_template = TEMPLATES[request.param]
    return Conversation(tokenizer, {Modality.IMAGE: SIGNALS}, {Modality.IMAGE: 2})


def _dialogue(*turns):
    messages = []
    for role, content in turns:
        parts = content if isinstance(content, tuple) else (content,)
        messages.append(Message(role, tuple(TextPart(p) if isinstance(p, str) else p for p in parts)))
    return Dialogue("k", tuple(messages))


def _whole(tokenizer, turns, **options):
    messages = [{"role": role, "content": text} for role, text in turns]
    text = tokenizer.apply_chat_template(messages, tokenize=False, **options)
    return tokenizer(text, add_special_tokens=False).input_ids


@pytest.mark.parametrize("count", [2, 3, 4])
def test_ids_are_those_of_the_whole_template(conversation, count):
    turns = TURNS[:count]
    assert conversation.render(_dialogue(*turns)).input_ids == _whole(conversation.tokenizer, turns)


@pytest.mark.parametrize("count", [1, 3])
def test_a_prompt_is_what_the_row_in_training_begins_with(conversation, count):
    prompt = conversation.render(_dialogue(*TURNS[:count]), add_generation_prompt=True)
    row = conversation.render(_dialogue(*TURNS[: count + 1]))
    length = len(prompt.input_ids)
    assert row.input_ids[:length] == prompt.input_ids
    whole = _whole(conversation.tokenizer, TURNS[:count], add_generation_prompt=True)
    assert whole[:length] == prompt.input_ids  # what may be missing is the blank at its end
    assert not conversation.tokenizer.decode(whole[length:]).strip()
    # all that is to be written is learned, and nothing in front of it
    assert row.labels[length - 1 : length + 1] == [IGNORE, row.input_ids[length]]


def test_what_the_assistant_writes_is_learned_with_the_token_behind_it(conversation):
    row = conversation.render(_dialogue(*TURNS))
    learned = [i for i in row.labels if i != IGNORE]
    text = conversation.tokenizer.decode(learned)
    for _, said in TURNS[1::2]:
        assert said in text
    assert "colour" not in text
    assert "Draw" not in text
    assert all(label in (IGNORE, token) for token, label in zip(row.input_ids, row.labels, strict=True))
    end = conversation.tokenizer.eos_token_id
    if "</s>" in conversation.tokenizer.chat_template:
        assert learned.count(end) == row.input_ids.count(end) == 2


@pytest.mark.parametrize("media_as", ["signals", "captions"])
def test_a_medium_stands_where_a_special_token_would(conversation, media_as):
    """The text around media is tokenised as it is around a special token in their place."""
    conversation.reply_media = reply_media(media_as)
    turns = (
        ("user", ("What is this? ", PICTURE, "\nA red circle.")),
        ("assistant", ("It is red.", DRAWN, " And green.", DRAWN)),
        ("user", (PICTURE,)),
        ("assistant", (DRAWN,)),
    )
    row = conversation.render(_dialogue(*turns))
    tokenizer = conversation.tokenizer
    end = tokenizer.eos_token_id
    drawn = "</s>" if media_as == "signals" else "</s>a red ring</s>"
    texts = [
        (role, "".join(part if isinstance(part, str) else "</s>" if part is PICTURE else drawn for part in content))
        for role, content in turns
    ]
    pad, length = tokenizer.pad_token_id, sum(slot.stop - slot.start for slot in row.slots)
    assert [row.input_ids[s.start : s.stop] for s in row.slots] == [[pad] * 2] * 2
    assert length == 4
    shown = {position for slot in row.slots for position in range(slot.start + 1, slot.stop)}
    signals = {SIGNALS[0]: [end], SIGNALS[1]: [] if media_as == "signals" else [end]}
    ids = [i for p, i in enumerate(row.input_ids) if p not in shown]
    assert [j for i in ids for j in signals.get(i, [i])] == _whole(tokenizer, texts)
    if media_as == "signals":
        assert [row.labels[s.start : s.stop] for s in row.spans] == [SIGNALS] * 3


def test_special_tokens_in_a_message_are_text_and_those_of_the_template_are_not(conversation):
    tokenizer = conversation.tokenizer
    special = set(tokenizer.all_special_ids)
    spelled = conversation.render(_dialogue(("user", "Is </s> or <|im_end|> red?"), TURNS[1]))
    plain = conversation.render(_dialogue(("user", "Is it red?"), TURNS[1]))
    found, meant = ([i for i in row.input_ids if i in special] for row in (spelled, plain))
    unknown = tokenizer.unk_token_id
    assert [i for i in found if i != unknown] == [i for i in meant if i != unknown]
    assert [i for i in spelled.labels if i != IGNORE] == [i for i in plain.labels if i != IGNORE]
    head = len(conversation.render(_dialogue(("user", "Is"))).input_ids) // 2
    assert spelled.input_ids[:head] == plain.input_ids[:head]
    if unknown not in spelled.input_ids and tokenizer.is_fast:  # slow ones do not put bytes together again
        assert "Is </s> or <|im_end|> red?" in tokenizer.decode(spelled.input_ids)


def test_text_without_special_tokens_has_the_same_ids_in_both_ways(conversation, monkeypatch):
    """Where one message spells a special token, the others' ids do not change."""
    tokens = conversation._tokens
    usual = conversation.render(_dialogue(*TURNS))
    monkeypatch.setattr(type(tokens), "_spells_special", lambda *_: True)
    assert conversation.render(_dialogue(*TURNS)) == usual
