"""Media and predictions are written in threads: nothing is lost or reordered, and errors of threads are raised."""

import threading
import time
from concurrent.futures import Future

import numpy as np
import pytest

from nextgpt_pl.evaluation import JudgedRight, PocketCaptions, records, run
from nextgpt_pl.evaluation.background import Background
from nextgpt_pl.media.writing import save_exactly
from nextgpt_pl.samples import ReplyPart


class Painter:
    """Draws noise, a batch at a time; calls ``between`` before each batch."""

    def __init__(self, between=lambda number: None):
        self.between, self.batches = between, 0

    def batch(self, conversations, *, seeds, **options):
        self.between(self.batches)
        self.batches += 1
        arrays = (np.random.default_rng(seed).integers(0, 256, (16, 16, 3), np.uint8) for seed in seeds)
        return [[ReplyPart("image", array=array)] for array in arrays]


def _predict(model, folder, count=75):
    task = PocketCaptions("image", [JudgedRight()], count=count)
    run.predict(model, [task], folder, temperature=0.0, seed=0)
    return task


def test_a_batch_is_written_while_the_next_is_drawn(tmp_path, monkeypatch):
    drawing = threading.Event()

    def save(array, modality, stem, rate=None):
        assert drawing.wait(20)  # the first batch cannot be written before the second is drawn
        return save_exactly(array, modality, stem, rate)

    monkeypatch.setattr(records, "save_exactly", save)
    task = _predict(Painter(lambda number: drawing.set() if number == 1 else None), tmp_path)
    keys = [item.key for item in task.items()]
    assert [prediction.key for prediction in records.read(tmp_path)] == keys


def test_slow_media_change_neither_order_nor_content(tmp_path, monkeypatch):
    def save(array, modality, stem, rate=None):
        time.sleep(0.05 * (int(stem.name[:5]) % 3 == 0))  # these are done behind the following ones
        return save_exactly(array, modality, stem, rate)

    (tmp_path / "slow").mkdir()
    (tmp_path / "fast").mkdir()
    _predict(Painter(), tmp_path / "fast", 30)
    monkeypatch.setattr(records, "save_exactly", save)
    _predict(Painter(), tmp_path / "slow", 30)
    texts = [(tmp_path / name / records.FILE).read_text() for name in ("slow", "fast")]
    assert texts[0] == texts[1]


def test_an_interrupted_run_has_what_was_drawn_before(tmp_path, monkeypatch):
    def save(array, modality, stem, rate=None):
        time.sleep(0.02)
        return save_exactly(array, modality, stem, rate)

    def interrupt(number):
        if number == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(records, "save_exactly", save)
    with pytest.raises(KeyboardInterrupt):
        _predict(Painter(interrupt), tmp_path)
    assert len(records.read(tmp_path)) == 50
    model = Painter()
    _predict(model, tmp_path)
    assert model.batches == 1
    assert len(records.read(tmp_path)) == 75


@pytest.mark.parametrize("fails", [3, 70])
def test_a_full_disk_is_an_error_and_the_run_can_be_continued(fails, tmp_path, monkeypatch):
    def save(array, modality, stem, rate=None):
        if int(stem.name[:5]) == fails:
            raise OSError(28, "No space left on device")
        return save_exactly(array, modality, stem, rate)

    with monkeypatch.context() as patch:
        patch.setattr(records, "save_exactly", save)
        model = Painter()
        with pytest.raises(OSError, match="No space left"):
            _predict(model, tmp_path)
        assert model.batches == {3: 2, 70: 3}[fails]  # drawing ends at the next batch
    kept = records.read(tmp_path)
    assert len(kept) == fails
    _predict(Painter(), tmp_path)
    (tmp_path / "whole").mkdir()
    _predict(Painter(), tmp_path / "whole")
    assert (tmp_path / records.FILE).read_text() == (tmp_path / "whole" / records.FILE).read_text()


def test_a_line_that_cannot_be_written_is_an_error_of_the_next_call():
    def write(prediction):
        raise OSError(f"{prediction} does not fit")

    done = Future()
    done.set_result("the first")
    with pytest.raises(OSError, match="the first does not fit"), Background(write) as background:
        background.record([done])
    background = Background(write)
    background.record([done])
    with pytest.raises(OSError, match="the first does not fit"):
        background.record([done])
    with pytest.warns(UserWarning, match="could not be written: .*does not fit"), pytest.raises(KeyboardInterrupt):
        _interrupted(write, done)


def _interrupted(write, done):
    with Background(write) as background:
        background.record([done])
        raise KeyboardInterrupt
