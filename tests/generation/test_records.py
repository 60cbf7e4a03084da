"""Records of a generation agree with a pass of the LLM over prompt and reply, and change nothing in the reply."""

import pytest
import torch

from nextgpt_pl.errors import UserError
from nextgpt_pl.generation import token_passes
from nextgpt_pl.generation.decoding import Decoding
from nextgpt_pl.generation.records import SpanRecord, TokenRecord, choice_of
from nextgpt_pl.generation.signals import Written, caption_embeddings
from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.pipeline import AnyToAny
from nextgpt_pl.readers.chat import dialogue_of
from nextgpt_pl.samples import ReplyPart

QUICK = {m.value: {"num_inference_steps": 1} for m in GENERATED}
ASKED = [{"role": "user", "content": "Which shapes do you know?"}]


@pytest.fixture
def chat(network):
    network.load()
    return AnyToAny(network)


def _recorded(chat, **options):
    items = list(chat.stream_recorded(ASKED, **options))
    tokens = [item for item in items if isinstance(item, TokenRecord)]
    spans = [item for item in items if isinstance(item, SpanRecord)]
    return items, tokens, spans, [item for item in items if isinstance(item, ReplyPart)]


def _own_probabilities(chat, row):
    """The LLM's probabilities ``(T, V)`` of the reply's tokens, from one pass over prompt and reply."""
    llm = chat.network.llm
    start = len(chat.conversation.prompt(dialogue_of(ASKED)).input_ids)
    ids = torch.tensor([row.input_ids])
    logits = llm.model(inputs_embeds=llm.embed(ids)).logits[0, start - 1 : -1]
    return logits.softmax(-1), row.input_ids[start:]


def test_records_are_what_a_pass_over_the_reply_predicts(chat):
    options = {"modalities": ["image"], "max_new_tokens": 60, **QUICK}
    items, tokens, spans, parts = _recorded(chat, alternatives=3, **options)
    (row,) = chat.write([ASKED], Decoding(max_new_tokens=60, modalities=[Modality.IMAGE]))
    with torch.no_grad():
        expected, ids = _own_probabilities(chat, row)
    assert len(tokens) >= len(ids) > 8
    for token, probabilities, chosen in zip(tokens, expected, ids, strict=False):
        best = probabilities.topk(3)
        assert token.choice.probability == pytest.approx(probabilities[chosen].item(), abs=1e-4)
        assert [p for _, p in token.choice.alternatives] == pytest.approx(best.values.tolist(), abs=1e-4)
        assert [p for _, p in token.alternatives] == [p for _, p in token.choice.alternatives]
    names = [token.text for token in tokens if token.modality is Modality.IMAGE]
    assert names == [f"[IMG{i}]" for i in range(4)] * (len(names) // 4)
    assert [token.opens for token in tokens if token.modality] == [name == "[IMG0]" for name in names]
    # the rest of a span is forced, whatever the LLM's own probability is
    assert all(t.choice.constrained == 1 for t in tokens if t.modality and not t.opens)
    (embeddings,) = caption_embeddings(chat.network, [Written(row)])
    for record, wanted in zip(spans, embeddings, strict=True):
        assert (record.embedding - wanted).abs().max() < 1e-4 * wanted.abs().max()
    media = [i for i, item in enumerate(items) if isinstance(item, ReplyPart) and item.type == "image"]
    assert all(isinstance(items[i - 1], SpanRecord) for i in media)
    plain = list(chat.stream(ASKED, **options))
    assert [(p.type, p.text) for p in parts] == [(p.type, p.text) for p in plain]


def test_tokens_that_complete_a_reply_have_records_without_choice(chat):
    _, tokens, spans, _ = _recorded(chat, modalities=["audio"], max_new_tokens=3, **QUICK)
    assert [t.choice is None for t in tokens[-8:]] == [True] * 8
    assert [t.text for t in tokens[-8:]] == [f"[AUD{i}]" for i in range(8)]
    assert all(t.choice is not None for t in tokens[:3])
    assert spans[-1].modality is Modality.AUDIO


def test_without_records_nothing_is_computed_for_them(chat, monkeypatch):
    monkeypatch.setattr(token_passes, "choice_of", lambda *_: pytest.fail("computed"))
    parts = list(chat.stream(ASKED, modalities=["image"], **QUICK))
    assert all(isinstance(part, ReplyPart) for part in parts)
    with pytest.raises(UserError, match="alternatives=-1: a whole number"):
        list(chat.stream_recorded(ASKED, alternatives=-1))


def test_a_choice_has_its_probability_before_and_after_constraints():
    logits = torch.tensor([2.0, 1.0, 0.0]).log_softmax(-1)
    scores = torch.tensor([-torch.inf, 0.0, 0.0])
    choice = choice_of(logits, scores, 1, 9)
    assert choice.probability == pytest.approx(0.244728, abs=1e-6)
    assert choice.constrained == pytest.approx(0.5)
    assert [i for i, _ in choice.alternatives] == [0, 1, 2]
    assert sum(p for _, p in choice.alternatives) == pytest.approx(1)
