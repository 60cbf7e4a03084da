"""The verb ``score``, with a model that replies what is expected."""

import json

import pytest

from nextgpt_pl.__main__ import main
from nextgpt_pl.batches import Rendered, SignalSpan
from nextgpt_pl.errors import UserError
from nextgpt_pl.evaluation import MalformedSpans, PocketReplies, records, run
from nextgpt_pl.modality import MODALITIES, Modality
from nextgpt_pl.pocket.world import dialogues, grammar
from nextgpt_pl.pocket.world.render import render
from nextgpt_pl.pocket.world.scenes import VIDEO_FPS, Answer, item_rng
from nextgpt_pl.samples import ReplyPart
from nextgpt_pl.verbs.evaluation import evaluate
from nextgpt_pl.verbs.score import RESULTS, ROUTES, score, table_rows

RATES = {"image": None, "video": VIDEO_FPS, "audio": 16_000}
SIGNALS = MODALITIES[Modality.IMAGE].signal_tokens()


def _key(messages):
    """A question, to find it again; media are made anew at every call."""
    return str([part.get("text", part["type"]) for part in messages[-1]["content"]])


class _Tokenizer:
    def decode(self, ids, **_):
        return " ".join((*SIGNALS, "word")[i] for i in ids)


class _Oracle:
    """Replies to the dialogues of all routes what they expect, but for questions, which it cannot answer."""

    def __init__(self, count):
        self.asked = 0
        self.known = {}
        for route in dialogues.ROUTES:
            for number in range(count):
                dialogue = dialogues.dialogue(route, "heldout", number)
                asked = [
                    {"type": p.modality.value} if hasattr(p, "modality") else {"text": p.text}
                    for p in dialogue.messages[-2].parts
                ]
                text = str([part.get("text", part.get("type")) for part in asked])
                self.known[text, 10 * number] = route, dialogue.attributes["expected"]
        self.network = type("Network", (), {"llm": type("Llm", (), {"tokenizer": _Tokenizer()})})

    def batch(self, conversations, *, seeds, **_):
        self.asked += len(seeds)
        return [self._reply(*self.known[_key(m), seed]) for m, seed in zip(conversations, seeds, strict=True)]

    def _reply(self, route, expected):
        rng = item_rng("heldout", Modality.IMAGE, 0, 0, "oracle")
        reply = []
        for kind, scene in expected:
            if kind != "text":
                reply.append(ReplyPart(kind, array=render(scene, rng), rate=RATES[kind]))
            elif isinstance(scene, Answer):
                reply.append(ReplyPart("text", text="?" if route == "question" else scene.words))
            else:
                reply.append(ReplyPart("text", text=grammar.caption(scene, rng)))
        return reply

    def write(self, conversations, decoding):
        """A whole span, and one signal token too many."""
        self.asked += len(conversations)
        assert decoding.temperature == 1.0
        ids = [4, 0, 1, 2, 3, 4, 2]
        span = SignalSpan(Modality.IMAGE, 1, 5, "a circle")
        return [Rendered(input_ids=ids, labels=[-100, *ids[1:]], spans=(span,)) for _ in conversations]


@pytest.fixture
def model(monkeypatch):
    oracle = _Oracle(3)
    monkeypatch.setattr("nextgpt_pl.pipeline.AnyToAny.from_run", lambda *_, **__: oracle)
    return oracle


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter.safetensors").write_bytes(b"weights")
    (tmp_path / "config.yaml").write_text("model: pocket:llm")
    return tmp_path


def test_it_is_the_verb_test_and_a_second_call_asks_nothing(model, folder, capsys):
    record = score(folder, count=3, replies=4)
    assert model.asked == 14 * 3 + 4
    assert json.loads((folder / RESULTS).read_text()) == record
    printed = capsys.readouterr().out
    assert "image->text | all attributes right, at least 95% | 100.0%" in printed
    assert "text->image | all attributes right, at least 95% of the decoder's own | 100.0%, 101.2% of" in printed
    assert "question | all attributes right, at least 90% | 0.0%" in printed
    assert "asked for media | the right kinds and numbers, in order, at least 99% | 100.0%" in printed
    assert "4 replies | malformed signal spans, 0 | 4" in printed
    assert main(["score", "--run", str(folder), "--count", "3", "--replies", "4"]) == 0
    assert model.asked == 14 * 3 + 4
    assert evaluate(["evaluate", str(folder / RESULTS.parent)]) == 0
    assert json.loads((folder / RESULTS).read_text()) == record


@pytest.mark.parametrize("changed", ["config.yaml", "adapter/adapter.safetensors", "frozen/image/model.safetensors"])
def test_predictions_of_other_weights_are_refused(model, folder, monkeypatch, changed):
    monkeypatch.setenv("NEXTGPT_POCKET_WEIGHTS", str(folder / "frozen"))
    (folder / "frozen" / "image").mkdir(parents=True)
    score(folder, count=1, replies=1)
    (folder / changed).write_bytes(b"changed: pocket:")
    asked = model.asked
    with pytest.raises(UserError, match="eval/pocket: has predictions made by other weights; give another --out"):
        score(folder, count=1, replies=1)
    assert model.asked == asked


def test_other_settings_and_a_missing_yaml_are_refused(model, folder, tmp_path):
    score(folder, count=1, replies=1)
    with pytest.raises(UserError, match="has predictions made with other settings"):
        score(folder, count=2, replies=1)
    assert score(folder, count=2, replies=1, out=tmp_path / "other")
    with pytest.raises(UserError, match=r"nowhere\.yaml: no such file; --config names another file"):
        score(folder, config=tmp_path / "nowhere.yaml")


def test_folders_of_earlier_versions_have_no_hashes_and_are_continued(model, folder):
    score(folder, count=1, replies=1)
    file = folder / RESULTS.parent / "evaluation.yaml"
    file.write_text(file.read_text().split("answered_by:")[0])
    assert score(folder, count=1, replies=1)
    assert "answered_by:" in file.read_text()


def test_signal_tokens_outside_of_spans_are_counted_from_the_file(model, tmp_path):
    task = PocketReplies([MalformedSpans()], count=30)
    run.predict(model, [task], tmp_path, temperature=0.0, seed=0)
    assert {prediction.text for prediction in records.read(tmp_path)} == {"word [IMG2]"}
    found = run.score([task], tmp_path)["tasks"][task.name]["scores"]["malformed spans"]
    assert (found["value"], found["count"]) == (30.0, 30)


def _record(**changed):
    numbers = {"all right": {"value": 0.4, "count": 10}, "right kinds": {"value": 1.0, "count": 10}}
    tasks = {f"pocket {route}": {"items": 10, "scores": numbers, "paper": {}} for route in (*ROUTES, "text->text")}
    for modality, own in {"image": 0.8, "video": 0.5, "audio": 0.0}.items():
        tasks[f"pocket text->{modality}"] = {**tasks["pocket brief"], "paper": {"all right": own}}
    tasks["pocket text->text"] = {"items": 10, "scores": {"right kinds": {"value": 0.5, "count": 10}}, "paper": {}}
    tasks["pocket sampled replies"] = {"items": 7, "scores": {"malformed spans": {"value": 0.0}}, "paper": {}}
    return {"tasks": {**tasks, **changed}}


def test_the_table_sets_routes_against_the_decoders_own_score():
    rows = {row[0]: row[2] for row in table_rows(_record())}
    assert rows["text->image"] == "40.0%, 50.0% of the decoder's own 80.0%"
    assert "nan" in rows["text->audio"]
    assert rows["image->video"] == "40.0%"
    assert rows["asked for media"] == "100.0%"
    assert rows["not asked for media"] == "91.7%"
    assert rows["7 replies"] == "0"
    with pytest.raises(UserError, match=r"scores\.json has no replies to 'brief'; score --run RUN adds them"):
        table_rows(_record(**{"pocket brief": {"items": 0}}))
