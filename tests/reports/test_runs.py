import pytest

from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import Modality
from nextgpt_pl.reports import find_runs
from nextgpt_pl.reports.samples import drawn


def test_runs_are_found_at_any_depth_each_once(make_run, tmp_path):
    one, two = make_run("a/b/one"), make_run("a/two")
    runs = find_runs([tmp_path / "outputs", one])
    assert [run.folder for run in runs] == [one, two]
    assert [run.name for run in runs] == ["b/one", "a/two"]


def test_what_a_run_logged(make_run):
    (run,) = find_runs([make_run("a/one", error=0.25)])
    assert run.config["model.init_args.network.init_args.output_projection.init_args.width"] == 512
    trained = {"train/loss": 9 / 16, "val/loss": 1.5, "val/relative_mse_image": 0.25}
    assert run.final == {**trained, "speed/samples_per_second": 45.0}
    assert run.speed == {"samples_per_second": 37.5}
    assert run.curve("val/relative_mse_image").to_dict() == {9: 0.5, 19: 0.25}
    assert len(run.curve("no/such")) == 0
    assert run.stage == "DecoderAlignment"
    assert run.finished


def test_a_run_that_logged_nothing_yet(make_run):
    folder = make_run("a/one", finished=False)
    (folder / "metrics.csv").write_text("")
    (run,) = find_runs([folder])
    assert run.final == {}
    assert not run.finished


def test_the_last_samples(make_run, add_samples):
    folder = make_run("a/one")
    add_samples(folder, ["c"])
    (folder / "samples" / "val_step_000021").mkdir()
    (run,) = find_runs([folder])
    assert [f.name for f in run.samples("image_*_signal.png")] == ["image_0_signal.png"]
    assert run.samples("nothing") == []


def test_mistakes_are_named(tmp_path, make_run):
    with pytest.raises(UserError, match="nowhere: no such folder; give run folders"):
        find_runs([tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: no run in it \(config.yaml beside metrics.csv"):
        find_runs([tmp_path / "empty"])
    folder = make_run("a/one")
    (folder / "config.yaml").write_text("a: [")
    with pytest.raises(UserError, match="not valid YAML"):
        find_runs([folder])


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.yaml", b"a: ["),
        ("metrics.csv", b'step,loss\n1,2,3,4\n1\n"x'),
        ("metrics.csv", b"\xff\xfe\0"),
        ("metrics.csv", b"loss\n1\n"),
        ("metrics.csv", b"step,loss\n1,high\n"),
    ],
)
def test_one_damaged_run_does_not_end_a_report(make_run, tmp_path, file, content):
    whole, damaged = make_run("a/one"), make_run("a/two")
    (damaged / file).write_bytes(content)
    with pytest.warns(UserWarning, match=rf"damaged run 1 of 1 is left out: .*two/{file}"):
        runs = find_runs([tmp_path / "outputs"])
    assert [run.folder for run in runs] == [whole]


def test_samples_are_files_of_the_run(make_run, add_samples, tmp_path):
    folder = make_run("a/one")
    add_samples(folder, ["c"])
    (run,) = find_runs([folder])
    (secret := tmp_path / "secret.png").write_bytes(b"x")
    (place,) = (folder / "samples").iterdir()
    (place / "image_0_signal.png").unlink()
    (place / "image_0_signal.png").symlink_to(secret)
    assert run.samples("image_*_signal.png") == []
    assert drawn(run, Modality.IMAGE) == {}
    (place / "image_captions.txt").write_text("../../../../secret: c\n/0: d\n")
    assert drawn(run, Modality.IMAGE) == {}
