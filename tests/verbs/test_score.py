"""The verb ``score``, with a model that is never asked."""

from types import SimpleNamespace

import pytest

from nextgpt_pl.evaluation import pocket_routes as routes
from nextgpt_pl.evaluation.pocket_routes import RouteScore
from nextgpt_pl.verbs import score as verb


@pytest.fixture
def asked(tmp_path, monkeypatch):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter.safetensors").write_bytes(b"weights")
    (tmp_path / "config.yaml").write_text("model: {}")
    asked: list[str] = []

    def score_route(_model, route, count):
        if len(asked) == 3 and "interrupt" in asked:
            raise KeyboardInterrupt
        asked.append(route)
        return RouteScore(count, right=len(route) % count, kinds_right=count, examples=[("Draw.", "<image>", True)])

    monkeypatch.setattr(verb, "AnyToAny", SimpleNamespace(from_run=lambda _, **__: _model()))
    monkeypatch.setattr(verb, "decoder_score", lambda _modality, _count: 0.5)
    monkeypatch.setattr(routes, "score_route", score_route)
    monkeypatch.setattr(routes, "malformed_spans", lambda _model, _count: 0)
    return asked


def _model():
    return SimpleNamespace(network=SimpleNamespace(decoders={}))


def test_an_interrupted_score_goes_on_and_a_changed_run_starts_anew(asked, tmp_path):
    asked.append("interrupt")
    with pytest.raises(KeyboardInterrupt):
        verb.score(tmp_path, count=7, replies=2)
    assert asked == ["interrupt", *routes.SCORED[:2]]
    assert not (tmp_path / "scores.json").exists()  # a page or a model card would miss rows in it
    asked.clear()
    record = verb.score(tmp_path, count=7, replies=2)
    assert asked == list(routes.SCORED[2:])
    assert list(record["routes"]) == list(routes.SCORED)
    assert [p.name for p in tmp_path.glob("scores*")] == ["scores.json"]
    assert record["routes"]["image->text"]["all_right"] == pytest.approx(len("image->text") % 7 / 7)
    asked.clear()
    assert verb.score(tmp_path, count=7, replies=2)["routes"] == record["routes"]
    assert not asked
    (tmp_path / "adapter" / "adapter.safetensors").write_bytes(b"other weights")
    verb.score(tmp_path, count=7, replies=2)
    assert asked == list(routes.SCORED)


@pytest.mark.parametrize("changed", ["config.yaml", "frozen/image/model.safetensors"])
def test_other_settings_or_frozen_weights_start_anew(asked, tmp_path, monkeypatch, changed):
    monkeypatch.setenv("NEXTGPT_POCKET_WEIGHTS", str(tmp_path / "frozen"))
    (tmp_path / "frozen" / "image").mkdir(parents=True)
    verb.score(tmp_path, count=7, replies=2)
    asked.clear()
    verb.score(tmp_path, count=7, replies=2)
    assert not asked
    (tmp_path / changed).write_bytes(b"changed")
    verb.score(tmp_path, count=7, replies=2)
    assert asked == list(routes.SCORED)


def test_another_count_starts_anew(asked, tmp_path):
    verb.score(tmp_path, count=7, replies=2)
    asked.clear()
    verb.score(tmp_path, count=8, replies=2)
    assert asked == list(routes.SCORED)
