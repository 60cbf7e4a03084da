"""The verb ``score``, with a model that replies what is expected."""

import json
import shutil

import pytest

from nextgpt_pl.__main__ import main
from nextgpt_pl.batches import Rendered, SignalSpan
from nextgpt_pl.errors import UserError
from nextgpt_pl.evaluation import MalformedSpans, PocketReplies, bootstrap, records, run
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


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch):
    """Intervals from three resamples: tests/evaluation/test_bootstrap.py has their widths."""
    of_mean, of_set = bootstrap.of_mean, bootstrap.of_set
    monkeypatch.setattr(bootstrap, "of_mean", lambda *args: of_mean(*args, resamples=3))
    monkeypatch.setattr(bootstrap, "of_set", lambda *args, resamples=3: of_set(*args, resamples=min(resamples, 3)))


@pytest.fixture
def model(monkeypatch):
    oracle = _Oracle(2)
    monkeypatch.setattr("nextgpt_pl.pipeline.AnyToAny.from_run", lambda *_, **__: oracle)
    return oracle


def _run(folder):
    (folder / "adapter").mkdir()
    (folder / "adapter" / "adapter.safetensors").write_bytes(b"weights")
    (folder / "config.yaml").write_text("model: pocket:llm")
    return folder


@pytest.fixture
def folder(tmp_path):
    return _run(tmp_path)


@pytest.fixture(scope="module")
def scored_once(tmp_path_factory):
    """A scored run with ``frozen`` weights of its own."""
    folder = _run(tmp_path_factory.mktemp("scored"))
    (folder / "frozen" / "image").mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nextgpt_pl.pipeline.AnyToAny.from_run", lambda *_, **__: _Oracle(1))
        patch.setenv("NEXTGPT_POCKET_WEIGHTS", str(folder / "frozen"))
        score(folder, count=1, replies=1)
    return folder


@pytest.fixture
def scored(scored_once, tmp_path, monkeypatch):
    """That run, which a test may change: it is put back. A copy would be another run, with other settings."""
    monkeypatch.setenv("NEXTGPT_POCKET_WEIGHTS", str(scored_once / "frozen"))
    kept = shutil.copytree(scored_once, tmp_path / "kept")
    yield scored_once
    shutil.rmtree(scored_once)
    shutil.copytree(kept, scored_once)


def test_it_is_the_verb_test_and_a_second_call_asks_nothing(model, folder, capsys):
    record = score(folder, count=2, replies=4)
    assert model.asked == 17 * 2 + 4
    assert json.loads((folder / RESULTS).read_text()) == record
    printed = capsys.readouterr().out
    assert "image->text | all attributes right, at least 95% | 100.0%" in printed
    assert "text->image | all attributes right, at least 95% of the decoder's own | 100.0%, 101.2% of" in printed
    assert "question | all attributes right, at least 90% | 0.0%" in printed
    assert "asked for media | the right kinds and numbers, in order, at least 99% | 100.0%" in printed
    assert "4 replies | malformed signal spans, 0 | 4" in printed
    assert main(["score", "--run", str(folder), "--count", "2", "--replies", "4"]) == 0
    assert model.asked == 17 * 2 + 4
    assert evaluate(["evaluate", str(folder / RESULTS.parent)]) == 0
    assert json.loads((folder / RESULTS).read_text()) == record


@pytest.mark.parametrize("changed", ["config.yaml", "adapter/adapter.safetensors", "frozen/image/model.safetensors"])
def test_predictions_of_other_weights_are_refused(model, scored, changed):
    (scored / changed).write_bytes(b"changed: pocket:")
    with pytest.raises(UserError, match="eval/pocket: has predictions made by other weights; give another --out"):
        score(scored, count=1, replies=1)
    assert model.asked == 0


def test_other_settings_and_a_missing_yaml_are_refused(model, scored, tmp_path):
    with pytest.raises(UserError, match="has predictions made with other settings"):
        score(scored, count=2, replies=1)
    assert model.asked == 0
    assert score(scored, count=1, replies=2, out=tmp_path / "other")
    with pytest.raises(UserError, match=r"nowhere\.yaml: no such file; --config names another file"):
        score(scored, config=tmp_path / "nowhere.yaml")


def test_folders_of_earlier_versions_have_no_hashes_and_are_continued(model, scored):
    file = scored / RESULTS.parent / "evaluation.yaml"
    text = file.read_text()
    file.write_text(text.split("answered_by:")[0])
    assert score(scored, count=1, replies=1)
    assert file.read_text() == text
    assert model.asked == 0


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
    assert rows["not asked for media"] == "92.9%"
    assert rows["7 replies"] == "0"
    with pytest.raises(UserError, match=r"scores\.json has no replies to 'brief'; score --run RUN adds them"):
        table_rows(_record(**{"pocket brief": {"items": 0}}))
