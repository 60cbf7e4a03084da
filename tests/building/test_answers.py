import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextgpt_pl.building import answers
from nextgpt_pl.building.answers import Rejected, decoded, encoded, parse, schema
from nextgpt_pl.building.plans import Bounds, Plan
from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import MediaPart, TextPart

PLAN = Plan(0, "shapes", (Modality.IMAGE,), 1, "", "")
BOUNDS = Bounds((1, 2), 2)
TEXT = {"type": "text", "text": "Draw it."}
IMAGE = {"type": "image", "caption": " a circle "}


def answer(*contents):
    roles = ("user", "assistant")
    return json.dumps({"messages": [{"role": roles[i % 2], "content": c} for i, c in enumerate(contents)]})


def test_a_reply_is_messages_with_captioned_media_in_order():
    for text in (answer([TEXT], [TEXT, IMAGE]), f"```json\n{answer([TEXT], [TEXT, IMAGE])}\n```\nAnything else?"):
        user, assistant = parse(text, PLAN, BOUNDS)
        assert (user.role, user.parts) == ("user", (TextPart("Draw it."),))
        assert assistant.parts == (TextPart("Draw it."), MediaPart(Modality.IMAGE, caption="a circle"))
        assert decoded(encoded((user, assistant))) == (user, assistant)


@pytest.mark.parametrize(
    ("text", "reason", "detail"),
    [
        ("", answers.NOT_JSON, "no JSON object"),
        ("{'a': 1}", answers.NOT_JSON, "key must be a string"),
        ("{" * 100_000 + "}" * 100_000, answers.NOT_JSON, ""),
        ('{"messages": ' + "[" * 100_000 + "]" * 100_000 + "}", answers.NOT_JSON, "recursion limit"),
        ('{"messages": "\ud800"}', answers.NOT_JSON, "surrogates not allowed"),
        ("{}", answers.NOT_SCHEMA, "messages Field required"),
        ('{"messages": []}', answers.ROLES, "no message"),
        (answer([TEXT]), answers.ROLES, "user"),
        (answer([TEXT], [IMAGE]).replace("user", "system"), answers.NOT_SCHEMA, "messages.0.role"),
        (answer([TEXT], [{**IMAGE, "url": "http://x"}]), answers.NOT_SCHEMA, "Extra inputs are not permitted"),
        (answer([TEXT], [{"type": "smell", "caption": "roses"}]), answers.NOT_SCHEMA, "messages.1.content.0"),
        (answer([TEXT], []), answers.NOT_SCHEMA, "messages.1.content is empty"),
        (answer(*[[TEXT], [IMAGE]] * 3), answers.EXCHANGES, "3, expected 1 to 2"),
        (answer([TEXT], [TEXT]), answers.KINDS, "none; expected image"),
        (answer([IMAGE], [{**IMAGE, "type": "depth"}]), answers.KINDS, "depth, image; expected image"),
        (answer([IMAGE, IMAGE], [IMAGE]), answers.KINDS, "3 media, at most 2"),
        (answer([{**TEXT, "text": " \n"}], [IMAGE]), answers.TEXT, "expected 1 to 20000"),
        (answer([{**TEXT, "text": "x" * 20_001}], [IMAGE]), answers.TEXT, "20001 characters"),
        (answer([TEXT], [{**IMAGE, "caption": "an <audio>"}]), answers.TEXT, "<audio> in"),
    ],
)
def test_what_is_no_usable_dialogue_is_rejected_with_its_reason(text, reason, detail):
    with pytest.raises(Rejected) as rejected:
        parse(text, PLAN, BOUNDS)
    assert rejected.value.reason == reason
    assert detail in rejected.value.detail
    assert len(rejected.value.detail) < 300


@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_any_text_is_parsed_or_rejected(text):
    with pytest.raises(Rejected):
        parse(text, PLAN, BOUNDS)


def test_the_schema_is_one_that_structured_outputs_take():
    def check(node):
        if isinstance(node, dict):
            if node.get("type") == "object":
                assert node["additionalProperties"] is False
                assert set(node["required"]) == set(node["properties"])
            assert not {"oneOf", "default", "discriminator"} & set(node)
            for value in node.values():
                check(value)
        elif isinstance(node, list):
            for value in node:
                check(value)

    check(schema())
    assert '"enum": ["image", "video", "audio"]' in json.dumps(schema())


def test_messages_of_a_broken_journal_are_named():
    with pytest.raises(UserError, match="no messages of a dialogue"):
        decoded([{"role": "user"}])
