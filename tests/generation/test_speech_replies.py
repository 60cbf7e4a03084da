"""Dialogues with spoken replies: training, generation, streaming, files, and adapters."""

import json
from functools import partial

import numpy as np
import pytest
import tiny_towers
import torch

from nextgpt_pl.adapter import load_adapter, manifest_of, save_adapter
from nextgpt_pl.decoders import VitsDecoder
from nextgpt_pl.dialogue.batching import pad
from nextgpt_pl.encoders import CtcEncoder
from nextgpt_pl.encoders.ctc import save_head
from nextgpt_pl.errors import UserError
from nextgpt_pl.generation.records import SpanRecord
from nextgpt_pl.generation.streaming import joined
from nextgpt_pl.llm import CausalLM, LoRA
from nextgpt_pl.modality import Modality
from nextgpt_pl.model import NextGPT
from nextgpt_pl.pipeline import AnyToAny
from nextgpt_pl.pocket.parts import pocket_decoder
from nextgpt_pl.projections import LinearInputProjection, MLPOutputProjection
from nextgpt_pl.samples import Dialogue, MediaPart, Message, TextPart
from nextgpt_pl.serving.content import content_part
from nextgpt_pl.stages import DecoderAlignment, InstructionTuning
from nextgpt_pl.verbs.talking import printed
from tests.helpers.speech_parts import save_vits

SAID = "here is a red ring"
QUICK = {"image": {"num_inference_steps": 1}}


@pytest.fixture(scope="module")
def voice(tmp_path_factory):
    return save_vits(tmp_path_factory.mktemp("vits"))


def _network(voice=None, image=True, **options):
    torch.manual_seed(0)
    decoders = {"image": pocket_decoder(Modality.IMAGE)} if image else {}
    return NextGPT(
        CausalLM("pocket:llm"),
        decoders={**decoders, **({} if voice is None else {"speech": VitsDecoder(str(voice))})},
        output_projection=partial(MLPOutputProjection, width=16) if image else None,
        **options,
    )


def _ask(text):
    return [{"role": "user", "content": text}]


@pytest.fixture(scope="module")
def chat(voice):
    """Stage 3, overfitted on two exchanges: one reply is spoken, the other is spoken and drawn."""
    network = _network(voice)
    stage = InstructionTuning(network, lora=LoRA(dropout=0.0), lr=3e-3, samples=0)
    stage.trains = tuple(p for p in stage.trains if not p.startswith("input"))  # there is no encoder
    stage.configure_model()
    stage.log_split = lambda *_: None
    ring = MediaPart(Modality.IMAGE, caption="a red ring")
    spoken = MediaPart(Modality.SPEECH, caption=SAID)
    answers = {"Say it.": (TextPart("Listen:"), spoken), "Draw it.": (spoken, TextPart("And:"), ring)}
    talks = [Dialogue(q, (Message("user", (TextPart(q),)), Message("assistant", a))) for q, a in answers.items()]
    conversation = network.conversation()
    batch = pad([conversation(talk) for talk in talks], conversation.pad_token_id)
    assert list(batch.spans) == [Modality.IMAGE]
    optimizer = torch.optim.AdamW(stage.parameter_groups())
    for _ in range(60):
        optimizer.zero_grad()
        stage.model_step(batch, "train").backward()
        optimizer.step()
    return AnyToAny(network)


def test_a_reply_has_the_sound_and_its_words(chat, voice):
    text, speech = chat(_ask("Say it."))
    assert (text.text, speech.type, speech.caption) == ("Listen:", "speech", SAID)
    (wanted,) = VitsDecoder(str(voice)).generate_from_words([SAID], seed=0)
    assert np.array_equal(speech.array, wanted)
    assert speech.rate == 2000


def test_media_of_both_kinds_stand_in_one_reply_and_streams_equal_it(chat):
    whole = chat(_ask("Draw it."), seed=3, **QUICK)
    assert [part.type for part in whole] == ["speech", "text", "image"]
    streamed = joined(chat.stream(_ask("Draw it."), seed=3, previews=1, **QUICK))
    assert [(p.type, p.text, p.caption, p.tokens) for p in streamed] == [
        (p.type, p.text, p.caption, p.tokens) for p in whole
    ]
    for one, other in zip(streamed, whole, strict=True):
        assert one.array is None or np.array_equal(one.array, other.array)
    batched = chat.batch([_ask("Say it."), _ask("Draw it.")], seeds=[0, 3], **QUICK)[1]
    assert all(a.array is None or np.array_equal(a.array, b.array) for a, b in zip(batched, whole, strict=True))


def test_records_have_no_embedding_of_words(chat):
    items = list(chat.stream_recorded(_ask("Draw it."), alternatives=2, **QUICK))
    found = [item for item in items if isinstance(item, SpanRecord)]
    assert [(r.modality.value, r.embedding is None) for r in found] == [("speech", True), ("image", False)]


def test_modalities_force_and_forbid_speech(chat):
    forced = chat(_ask("What is this?"), modalities=["speech"])
    assert [part.type for part in forced if part.type != "text"] == ["speech"]
    assert all(part.caption for part in forced if part.type == "speech")
    assert all(part.type == "text" for part in chat(_ask("Say it."), modalities=[]))
    # too short for words: nothing to say
    assert all(part.type == "text" for part in chat(_ask("Say it."), modalities=["speech"], max_new_tokens=1))


def test_sampling_arguments_reach_the_voice(chat):
    (slow,) = [p for p in chat(_ask("Say it."), speech={"speaking_rate": 0.25}) if p.type == "speech"]
    (usual,) = [p for p in chat(_ask("Say it.")) if p.type == "speech"]
    assert len(slow.array) > len(usual.array)
    with pytest.raises(UserError, match=r"sampling\.guidance_scale: VitsDecoder has no such argument"):
        chat(_ask("Say it."), speech={"guidance_scale": 1.0})


def test_a_spoken_reply_is_rendered_back_with_its_words(chat):
    reply = chat(_ask("Say it."))
    prompt = chat.prompt([*_ask("Say it."), {"role": "assistant", "content": reply}, *_ask("Draw it.")])
    opening, closing = chat.network.signal_ids()[Modality.SPEECH]
    words = prompt.input_ids[prompt.input_ids.index(opening) + 1 : prompt.input_ids.index(closing)]
    assert chat.network.llm.tokenizer.decode(words) == SAID
    served = [content_part(part) for part in reply]
    assert served[1]["caption"] == SAID
    messages = [*_ask("Say it."), {"role": "assistant", "content": served}, *_ask("Draw it.")]
    assert chat.prompt(messages).input_ids == prompt.input_ids


def test_chat_saves_a_sound_and_prints_its_words(chat, tmp_path, capsys):
    printed(chat.stream(_ask("Say it.")), tmp_path)
    assert f"speech_001.wav: {SAID}" in capsys.readouterr().out
    assert (tmp_path / "speech_001.wav").stat().st_size > 44


def test_an_adapter_of_speech_is_loaded_again(chat, voice, tmp_path):
    network = chat.network
    rows = [name for name, _ in network.named_parameters() if name.endswith(".rows")]
    save_adapter(tmp_path, network, rows, stage="InstructionTuning")
    other = _network(voice)
    other.load()
    load_adapter(tmp_path, other)
    own = dict(network.named_parameters())
    assert all(torch.equal(p, own[name]) for name, p in other.named_parameters() if name in rows)


def test_networks_without_a_voice_have_no_tokens_of_it_and_their_adapters_fit_one_with_a_voice(voice, tmp_path):
    plain, speaking = _network(), _network(voice)
    for network in (plain, speaking):
        network.load()
    assert Modality.SPEECH not in plain.signal_ids()
    assert {m: ids for m, ids in speaking.signal_ids().items() if m is not Modality.SPEECH} == plain.signal_ids()
    rows = [name for name, _ in plain.named_parameters() if name.endswith(".rows")]
    save_adapter(tmp_path, plain, rows, stage="DecoderAlignment")
    assert "speech" not in json.loads((tmp_path / "manifest.json").read_text())["signal_tokens"]
    assert list(manifest_of(speaking, rows, "A", [])["embedding_shapes"]) == ["image"]
    before = {name: p.clone() for name, p in speaking.named_parameters()}
    load_adapter(tmp_path, speaking)
    known = dict(plain.named_parameters())
    for name in rows:
        now = dict(speaking.named_parameters())[name]
        assert torch.equal(now[:-2], known[name])
        assert torch.equal(now[-2:], before[name][-2:])
    save_adapter(tmp_path / "speaking", speaking, rows, stage="InstructionTuning")
    with pytest.raises(UserError, match="rows:"):
        load_adapter(tmp_path / "speaking", plain)


def test_a_network_of_a_voice_alone_needs_no_projection(voice):
    network = _network(voice, image=False)
    network.load()
    assert not network.output_projections
    with pytest.raises(UserError, match=r"nothing is projected: .* all of network\.decoders take words"):
        DecoderAlignment(network)
    assert InstructionTuning(network).measured == ("loss_text", "signal_accuracy")
    with pytest.raises(UserError, match=r"model\.alignment_weights names \['speech'\]"):
        InstructionTuning(network, alignment_weights={"speech": 1.0})
    with pytest.raises(UserError, match=r"num_signal_tokens\.speech=1"):
        _network(voice, num_signal_tokens={"speech": 1})


def test_a_sound_is_speech_where_the_encoder_reads_speech_alone(tmp_path):
    tiny_towers.whisper(tmp_path)
    save_head(torch.nn.Linear(16, 3), ["red", "ring"], tmp_path)
    options = {"encoder": CtcEncoder(str(tmp_path), words=4), "input_projection": LinearInputProjection}
    network = _network(image=False, **options)
    network.load()
    chat = AnyToAny(network)
    sound = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    spoken, heard = (
        chat.prompt([{"role": "user", "content": [{"type": kind, kind: sound, "rate": 16_000}]}])
        for kind in ("speech", "audio")
    )
    assert [(slot.modality, slot.stop - slot.start) for slot in heard.slots] == [(Modality.SPEECH, 4)]
    assert heard.input_ids == spoken.input_ids
    assert torch.equal(heard.slots[0].inputs, spoken.slots[0].inputs)
    assert chat([{"role": "user", "content": [{"type": "audio", "audio": sound, "rate": 16_000}]}], max_new_tokens=3)
