import json
from pathlib import Path

import numpy as np
import pytest
from stand_ins import Means

from nextgpt_pl.errors import UserError
from nextgpt_pl.evaluation import (
    Captioning,
    CaptionManifest,
    CaptionQuality,
    Frechet,
    Generating,
    JudgedRight,
    Kernel,
    PocketRoute,
    Similarity,
    VqaAccuracy,
    records,
    report,
    run,
)
from nextgpt_pl.media.writing import save_image
from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.pocket.world import dialogues, grammar
from nextgpt_pl.pocket.world.attributes import attributes, scene_of
from nextgpt_pl.pocket.world.render import render
from nextgpt_pl.pocket.world.scenes import VIDEO_FPS, Answer, item_rng, item_scene
from nextgpt_pl.samples import ReplyPart
from nextgpt_pl.verbs import data, evaluation


class _Oracle:
    """Stands for a model: replies what the dialogue expects, but for the items that it is told to miss."""

    def __init__(self, route, missed=()):
        self.route, self.missed, self.asked, self.fail_after = route, set(missed), 0, None

    def batch(self, conversations, *, seeds, **options):
        if self.fail_after is not None and self.asked >= self.fail_after:
            raise KeyboardInterrupt
        return [self._reply(seed // 10) for seed in seeds]

    def _reply(self, number):
        self.asked += 1
        expected = dialogues.dialogue(self.route, "heldout", number).attributes["expected"]
        if number in self.missed:
            return [ReplyPart("text", text="I do not know.")]
        rng = item_rng("heldout", Modality.IMAGE, number, 0, "oracle")
        reply = []
        for kind, scene in expected:
            if kind == "text":
                reply.append(ReplyPart("text", text=grammar.caption(scene, rng)))
            else:
                reply.append(ReplyPart(kind, array=render(scene, rng), rate=_rate(kind)))
        return reply


def _rate(kind):
    return {"image": None, "video": VIDEO_FPS, "audio": 16_000}[kind]


@pytest.mark.parametrize("route", ["image->text", "text->video", "text->image+audio", "text->text"])
def test_what_is_right_is_counted_from_the_files_alone(route, tmp_path):
    task = PocketRoute(route, [JudgedRight()], count=6)
    run.predict(_Oracle(route, missed={1, 4}), [task], tmp_path, temperature=0.0, seed=0)
    found = run.score([task], tmp_path)["tasks"][task.name]["scores"]
    if route == "text->text":
        assert set(found) == {"right kinds"}
        return
    assert found["all right"]["value"] == pytest.approx(4 / 6)
    assert found["all right"]["low"] < 4 / 6 < found["all right"]["high"]
    kinds = 1.0 if route == "image->text" else 4 / 6
    assert found["right kinds"]["value"] == pytest.approx(kinds)


def test_an_interrupted_run_continues(tmp_path):
    task = PocketRoute("text->image", [JudgedRight()], count=60)
    model = _Oracle("text->image")
    model.fail_after = 25
    with pytest.raises(KeyboardInterrupt):
        run.predict(model, [task], tmp_path, temperature=0.0, seed=0)
    with (tmp_path / records.FILE).open("a") as file:
        file.write('{"task": "pocket text->im')  # what a kill leaves
    model.fail_after = None
    run.predict(model, [task], tmp_path, temperature=0.0, seed=0)
    assert model.asked == 60
    assert len(records.read(tmp_path)) == 60
    assert run.score([task], tmp_path)["tasks"][task.name]["scores"]["all right"]["value"] == 1.0


def test_data_sets_are_scored_against_their_own_files(tmp_path):
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    out.mkdir()
    lines = []
    for number in range(4):
        scene = item_scene("heldout", Modality.IMAGE, number)
        save_image(render(scene, item_rng("heldout", Modality.IMAGE, number, 0, "x")), data / f"{number}.png")
        lines.append(json.dumps({"file": f"{number}.png", "captions": ["a red circle", f"picture {number}"]}))
    (data / "captions.jsonl").write_text("\n".join(lines))
    layout = CaptionManifest(data, "image")
    scores = [Frechet(Means(), "FID"), Similarity(Means()), Similarity(Means(), "CLIP-I", to="medium")]
    scores.append(Kernel(Means()))
    make = Generating("make", layout, scores, "Draw {caption}.", paper={"FID": 11.18})
    tell = Captioning("tell", layout, [CaptionQuality(["CIDEr-D"]), VqaAccuracy()], "What is it?")
    run.predict(_Both(), [make, tell], out, temperature=0.0, seed=0)
    record = run.score([make, tell], out)
    assert record["tasks"]["make"]["failed"] == {}
    assert set(record["tasks"]["make"]["scores"]) == {"FID", "CLIPScore", "CLIP-I", "KID"}
    distance = record["tasks"]["make"]["scores"]["KID"]
    assert distance["low"] < distance["value"] < distance["high"]  # though every subset is all of the items
    assert record["tasks"]["tell"]["scores"]["accuracy"]["value"] == 1.0
    page = report.write(record, {"seed": 0}, out)
    markdown = (out / "report.md").read_text()
    assert "| make | FID |" in markdown
    assert "| 11.18 |" in markdown
    assert "a red circle" in page.read_text()


class _Both:
    def batch(self, conversations, *, seeds, modalities, **options):
        if not modalities:
            return [[ReplyPart("text", text="A red circle!")] for _ in seeds]
        scenes = [item_scene("heldout", Modality.IMAGE, seed) for seed in seeds]
        return [[ReplyPart("image", array=render(s, item_rng("heldout", Modality.IMAGE, 0, 0, "y")))] for s in scenes]


def test_what_cannot_be_scored_says_why(tmp_path):
    task = PocketRoute("text->image", [Frechet(Means(), "FID"), JudgedRight()], count=3)
    run.predict(_Oracle("text->image", missed={0, 1}), [task], tmp_path, temperature=0.0, seed=0)
    result = run.score([task], tmp_path)["tasks"][task.name]
    assert "1 of 3 replies hold a medium" in result["failed"]["Frechet"]
    assert result["scores"]["all right"]["value"] == pytest.approx(1 / 3)


def test_a_medium_of_another_type_is_not_compared_with_the_references(tmp_path):
    """A model that begins its reply with a sound is scored on the picture behind it, if there is one."""

    class Noisy(_Oracle):
        def _reply(self, number):
            reply = super()._reply(number)
            return [ReplyPart("audio", array=np.zeros(800, np.float32), rate=16_000), *reply[number == 0 :]]

    task = PocketRoute("text->image", [Frechet(Means(), "FID"), Similarity(Means())], count=4)
    run.predict(Noisy("text->image"), [task], tmp_path, temperature=0.0, seed=0)
    result = run.score([task], tmp_path)["tasks"][task.name]
    assert result["failed"] == {}
    assert {name: value["count"] for name, value in result["scores"].items()} == {"FID": 3, "CLIPScore": 3}


def test_predictions_cannot_reach_outside_of_their_folder(tmp_path):
    with pytest.raises(UserError, match="leaves its folder"):
        records.load_medium(tmp_path, {"type": "image", "file": "../secret.png"})


def test_scenes_survive_json():
    for modality in GENERATED:
        scene = item_scene("heldout", modality, 3)
        assert scene_of(json.loads(json.dumps(attributes(scene)))) == scene
    answer = Answer("There is one object.")
    assert scene_of(json.loads(json.dumps(attributes(answer)))) == answer
    with pytest.raises(ValueError, match="no scene has the attributes"):
        scene_of({"smell": "sweet"})


def test_evaluate_gives_the_numbers_of_test_and_other_settings_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("nextgpt_pl.pipeline.AnyToAny.from_run", lambda _, **__: _Oracle("text->image", missed={2}))
    config = tmp_path / "tiny.yaml"
    config.write_text(
        "tasks:\n"
        "  - class_path: nextgpt_pl.evaluation.PocketRoute\n"
        "    init_args: {route: text->image, count: 4, scores: [{class_path: nextgpt_pl.evaluation.JudgedRight}]}\n"
    )
    argv = ["test", "-c", str(config), "--run", str(tmp_path)]
    assert evaluation.test(argv) == 0
    folder = tmp_path / "eval" / "tiny"
    first = json.loads((folder / run.SCORES).read_text())
    (folder / run.SCORES).unlink()
    assert evaluation.evaluate(["evaluate", str(folder)]) == 0
    assert json.loads((folder / run.SCORES).read_text()) == first
    assert first["tasks"]["pocket text->image"]["scores"]["all right"]["value"] == 0.75
    with pytest.raises(UserError, match="other settings"):
        evaluation.test([*argv, "--seed", "1"])
    assert "pocket text->image" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["pocket", "paper"])
def test_every_evaluation_says_how_to_run_it_and_instantiates(name):
    file = Path(f"experiments/eval/{name}.yaml")
    assert f"python -m nextgpt_pl test -c {file}" in file.read_text().split("tasks:")[0]
    tasks = evaluation.tasks_of(*evaluation.parse("test", ["-c", str(file)]))
    assert len(tasks) >= 12
    assert all(task.scores for task in tasks)


def test_data_check_lists_what_is_missing(tmp_path, capsys):
    assert data.main(["data", "check", "-c", "experiments/eval/paper.yaml", "--checked", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert f"text to image, COCO: not there: root='{Path.cwd()}/data/coco': no such folder" in printed
    with pytest.raises(UserError, match="data check"):
        data.main(["data", "chekc"])


def test_misspelled_keys_of_a_task_are_named(tmp_path):
    config = tmp_path / "bad.yaml"
    config.write_text("tasks:\n  - class_path: nextgpt_pl.evaluation.PocketRoute\n    init_args: {rout: text->image}\n")
    with pytest.raises(UserError, match="rout"):
        evaluation.test(["test", "-c", str(config), "--run", str(tmp_path)])


def test_nothing_is_written_through_the_links_of_a_run(tmp_path, monkeypatch):
    monkeypatch.setattr("nextgpt_pl.pipeline.AnyToAny.from_run", lambda _, **__: _Oracle("text->image"))
    (tmp_path / "tiny.yaml").write_text(
        "tasks:\n"
        "  - class_path: nextgpt_pl.evaluation.PocketRoute\n"
        "    init_args: {route: text->image, count: 2, scores: [{class_path: nextgpt_pl.evaluation.JudgedRight}]}\n"
    )
    outside, folder = tmp_path / "outside", tmp_path / "run"
    outside.mkdir()
    folder.mkdir()
    (folder / "eval").symlink_to(outside)
    argv = ["test", "-c", str(tmp_path / "tiny.yaml"), "--run", str(folder)]
    with pytest.raises(UserError, match=r"eval/tiny: a link out of the run's folder; .* --out"):
        evaluation.test(argv)
    assert not list(outside.iterdir())
    (folder / "eval").unlink()
    assert evaluation.test(argv) == 0
    for name in (records.FILE, "report.md"):
        mine, file = outside / name, folder / "eval" / "tiny" / name
        mine.write_text("mine")
        file.unlink()
        file.symlink_to(mine)
        for verb, words in ((evaluation.test, argv), (evaluation.evaluate, ["evaluate", str(file.parent)])):
            with pytest.raises(UserError, match=f"{name}: a link, which could redirect files"):
                verb(words)
        assert mine.read_text() == "mine"
        file.unlink()


@pytest.mark.parametrize(
    ("part", "shown"),
    [
        ({"type": "image", "file": "../mine.png"}, None),
        ({"type": "video", "file": "damaged.mkv"}, "damaged.mkv: not a readable video"),
        ({"type": "video", "file": "nowhere.mkv"}, "nowhere.mkv: no such file"),
        ({"type": "image", "file": "link.png"}, "leaves its folder"),
        ({"type": "image", "file": "odd.xyz"}, "odd.xyz"),
    ],
)
def test_a_report_shows_no_file_of_another_folder_and_says_which_it_cannot_show(part, shown, tmp_path):
    (tmp_path / "mine.png").write_bytes(b"secret")
    folder = tmp_path / "eval"
    folder.mkdir()
    (folder / "damaged.mkv").write_bytes(b"x" * 100)
    (folder / "odd.xyz").write_bytes(b"x")
    (folder / "link.png").symlink_to(tmp_path / "mine.png")
    asked = [{"type": "text", "text": "x"}]
    with (folder / records.FILE).open("w") as file:
        records.write_line(records.Prediction("t", "k", asked, [part]), file)
        records.write_line(records.Prediction("t", "l", asked, [{"type": "text", "text": "a whole reply"}]), file)
    report.write({"tasks": {"t": {"scores": {}, "paper": {}, "failed": {}}}}, {}, folder)
    text = (folder / "report.md").read_text()
    assert "a whole reply" in text
    assert "mine.png" not in text.replace("'link.png' leaves", "")
    assert shown is None or shown in text


def test_a_task_that_one_process_has_no_data_for_is_asked_by_none(tmp_path, monkeypatch):
    task = Captioning("tell", CaptionManifest(tmp_path, "image"), [VqaAccuracy()], "What is it?")
    (tmp_path / "captions.jsonl").write_text("{}")
    assert run.present([task]) == ([task], {})
    monkeypatch.setattr(run, "all_gather_objects", lambda own: [own, {"tell": ["captions.jsonl"]}])
    assert run.present([task]) == ([], {"tell": ["captions.jsonl"]})
