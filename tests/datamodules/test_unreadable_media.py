import itertools
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tiny
import torch
from lightning.pytorch.callbacks import Callback
from PIL import Image

from nextgpt_pl.datamodules import CaptionedPairs, CaptionFolder
from nextgpt_pl.datamodules.row_notes import FILE
from nextgpt_pl.errors import UserError
from nextgpt_pl.features import FeatureCache
from nextgpt_pl.stages import EncoderAlignment
from nextgpt_pl.verbs.cache import _AllItems

BROKEN = {"cut.png": "not a readable image", "empty.png": "the file is empty", "nan.wav": "not finite"}


@pytest.fixture
def media_folder(tmp_path):
    """Twelve good media, and three that exist but cannot be used."""
    folder = tmp_path / "media"
    folder.mkdir()
    for index in range(6):
        Image.fromarray(np.full((20, 24, 3), 30 * index, np.uint8)).save(folder / f"{index}.png")
        soundfile.write(folder / f"{index}.wav", np.sin(np.arange(16000) / (index + 2)), 16_000, subtype="FLOAT")
    whole = (folder / "5.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").touch()
    samples = np.zeros(16000, np.float32)
    samples[5] = np.nan
    soundfile.write(folder / "nan.wav", samples, 16_000, subtype="FLOAT")
    names = sorted(p.name for p in folder.iterdir() if p.suffix in (".png", ".wav"))
    lines = [json.dumps({"file": name, "caption": f"a red circle {name[0]}"}) for name in names]
    (folder / "all.jsonl").write_text("\n".join(lines))
    return folder


def _stage(tiny_models, cache=None):
    model = tiny.network(tiny_models, cache)
    return EncoderAlignment(model, captions=0, lr=1e-2, warmup_ratio=0.0)


def _pairs(folder, on_error="skip", **options):
    source = CaptionFolder(folder, "all.jsonl", on_error=on_error, val_fraction=0.0)
    return CaptionedPairs([source], batch_size=5, **options)


class _Batches(Callback):
    """Keeps the batches that are trained on."""

    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, stage, outputs, batch, index):
        self.seen.append(batch)


def _fit(stage, data, folder, **options):
    """Two epochs; the logged values of each step."""
    found = []
    stage.log_split = lambda values, _split: found.append({k: float(v) for k, (v, _) in values.items()})
    tiny.quiet_trainer(folder, max_epochs=2, limit_val_batches=0, **options).fit(stage, data)
    return found


@pytest.mark.parametrize("workers", [0, 1])
def test_media_that_cannot_be_read_are_skipped_counted_and_reported(media_folder, tiny_models, tmp_path, workers):
    stage, data = _stage(tiny_models), _pairs(media_folder, num_workers=workers)
    batches = _Batches()
    _fit(stage, data, tmp_path, callbacks=[batches])
    assert [len(batch) for batch in batches.seen] == [5, 5, 5] * 2
    assert not {name for batch in batches.seen for key in batch.keys for name in BROKEN if name in key}
    lines = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()]
    assert {(n["split"], n["kind"], n["key"].split("(")[1].rstrip(")")) for n in lines} == {
        ("train", "skipped", name) for name in BROKEN
    }
    assert all(BROKEN[n["key"].split("(")[1].rstrip(")")] in n["reason"] for n in lines)
    rows = data.rows_used()
    assert (rows["train_rows_used"], rows["train_rows_skipped"]) == (12, 3)


def test_runs_with_and_without_workers_are_equal_and_nothing_is_read_in_the_training_thread(
    media_folder, tiny_models, tmp_path, monkeypatch
):
    plain = _fit(_stage(tiny_models), _pairs(media_folder), tmp_path)
    stage = _stage(tiny_models)
    prepare, process = type(stage.network.encoder).prepare, os.getpid()

    def in_workers_only(encoder, medium):
        assert os.getpid() != process
        return prepare(encoder, medium)

    monkeypatch.setattr(type(stage.network.encoder), "prepare", in_workers_only)
    data = _pairs(media_folder, num_workers=2)
    batches = _Batches()
    assert _fit(stage, data, tmp_path, callbacks=[batches]) == plain
    slots = [slot for batch in batches.seen for slots in batch.slots.values() for _, slot in slots]
    assert len(slots) == 30
    first = {slot.media: slot for slot in reversed(slots[:15])}
    assert all(slot.inputs is not None for slot in first.values())
    assert all(slot.inputs is None for slot in slots[15:])  # in the second epoch, all features are in memory


@pytest.mark.parametrize("workers", [0, 1])
def test_on_error_raise_names_the_item_and_the_file(media_folder, tiny_models, tmp_path, workers):
    message = r"^all\.jsonl, row \d+ \((cut|empty)\.png\): /.*(cut|empty)\.png: (not a readable|the file is)[^\n]*$"
    for name in ("nan.wav",):
        (media_folder / "all.jsonl").write_text(
            "\n".join(line for line in (media_folder / "all.jsonl").read_text().splitlines() if name not in line)
        )
    with pytest.raises(UserError, match=message):
        _fit(_stage(tiny_models), _pairs(media_folder, on_error="raise", num_workers=workers), tmp_path)


def test_features_that_are_kept_are_not_read_again(media_folder, tiny_models, tmp_path, monkeypatch):
    stage = _stage(tiny_models, FeatureCache(tmp_path / "cache", "float32"))
    data = _pairs(media_folder).with_renderer(stage.renderer, stage.reader)
    everything = _AllItems(data)
    for batch in data.every_item(0, 1):
        everything.on_before_batch_transfer(batch, 0)
        stage.fill_cache(batch, torch.device("cpu"))
    everything.report_rows()
    assert data.rows_used()["train_rows_skipped"] == 3
    stage.network.cache.flush()
    assert sum(stage.network.cache.counts().values()) == 12
    again = _stage(tiny_models, FeatureCache(tmp_path / "cache", "float32"))
    fresh = _pairs(media_folder).with_renderer(again.renderer, again.reader)
    monkeypatch.setattr(type(again.network.encoder), "prepare", _fails)
    batches = _good_batches(fresh)
    assert sum(len(slots) for batch in batches for slots in batch.slots.values()) == 12
    assert all(s.inputs is None for b in batches for slots in b.slots.values() for _, s in slots)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_cache_is_filled_by_full_passes_and_the_main_thread_hashes_nothing(
    media_folder, tiny_models, tmp_path, monkeypatch, workers
):
    """Two ranks take all media, in batches of one modality whose size is a multiple of that of a pass."""
    stage = _stage(tiny_models, FeatureCache(tmp_path / "cache", "float32"))
    source = CaptionFolder(media_folder, "all.jsonl", on_error="skip", val_fraction=0.0)
    data = CaptionedPairs([source], batch_size=3, num_workers=workers).with_renderer(stage.renderer, stage.reader)
    batches = [list(data.every_item(rank, 2)) for rank in range(2)]
    sizes = [[{str(m): len(slots) for m, slots in batch.slots.items()} for batch in of_rank] for of_rank in batches]
    # training, then validation on the same items; only a batch over their border mixes modalities
    assert sizes[0] == [{"image": 4}, {"audio": 4}, {"image": 4}, {"audio": 3}]
    assert sizes[1] == [{"image": 4}, {"image": 1, "audio": 3}, {"image": 3, "audio": 1}, {"audio": 3}]
    monkeypatch.setattr(stage.network.encoder_stores, "key", lambda medium: pytest.fail(f"{medium} was hashed again"))
    for batch in itertools.chain(*batches):
        stage.fill_cache(batch, torch.device("cpu"))
    assert sum(stage.network.cache.counts().values()) == 12


def _fails(self, media):
    raise UserError(f"{media.source}: was read")


def _good_batches(data):
    rows = data.rows("val")
    good = [i for i in range(len(rows)) if not any(name in rows.items[i].key for name in BROKEN)]
    collate = data._loader_arguments()["collate_fn"]
    return [collate([rows[i]]) for i in good]


def _processes(count, *arguments):
    """Run so many processes of ``helpers/run_broken.py`` to their ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    started = []
    for rank in range(count):
        who = {"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "x"}
        who |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(Path(tiny.__file__).parent / "run_broken.py"), *map(str, arguments)]
        environment = {**os.environ, **(who | where if count > 1 else where)}
        started.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    for process in started:
        _, said = process.communicate(timeout=240)
        assert process.returncode == 0, said[-3000:]


@pytest.mark.slow
def test_processes_skip_alike_and_train_on_what_one_process_trains_on(media_folder, tiny_models, tmp_path):
    for count in (1, 2):
        (tmp_path / str(count)).mkdir()
        _processes(count, tiny_models, media_folder, tmp_path / str(count))
    alone = torch.load(tmp_path / "1" / "0.pt")
    first, second = (torch.load(tmp_path / "2" / f"{rank}.pt") for rank in range(2))
    assert [size for _, size in alone["steps"]] == [4, 4, 4, 3] * 2
    assert [size for _, size in first["steps"]] == [2] * 8
    assert [size for _, size in second["steps"]] == [2] * 8
    assert first["rows"] == second["rows"] == alone["rows"]
    assert first["rows"]["train_rows_skipped"] == first["rows"]["val_rows_skipped"] == 3
    for name, value in first["trainables"].items():
        assert torch.equal(second["trainables"][name], value)
    # the last step of an epoch has a row more on two processes
    for (ours, _), (wanted, _) in zip(first["steps"][:3], alone["steps"][:3], strict=True):
        assert ours == pytest.approx(wanted, rel=1e-4)
    lists = [(tmp_path / str(count) / FILE).read_text().splitlines() for count in (1, 2)]
    assert sorted(lists[0]) == sorted(lists[1])
    assert len(lists[0]) == 6
