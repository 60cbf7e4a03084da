import subprocess
import sys

import numpy as np
import pytest
import torch

from nextgpt_pl.errors import UserError
from nextgpt_pl.media.writing import save
from nextgpt_pl.metrics import JudgedAttributes, MelCepstralDistance, VqaAccuracy
from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.pocket.judges import media as judge
from nextgpt_pl.pocket.world.scenes import item_scene


def test_answers_are_averaged():
    metric = VqaAccuracy()
    metric.update(["2 dogs"], [["Two dogs"]])
    metric.update(["no", "red"], [["yes"], ["red", "red", "blue", "green"]])
    assert metric.compute().item() == pytest.approx((1 + 0 + 0.5) / 3)


def test_every_attribute_of_the_pocket_world_is_counted():
    metric = JudgedAttributes()
    for modality in GENERATED:
        scene = item_scene("heldout", modality, 0)
        metric.update([judge.matches(scene, scene), judge.matches(None, scene)])
    found = metric.compute()
    assert set(found) == set(metric.names)
    assert {round(value.item(), 6) for value in found.values()} == {0.5}


def test_sounds_are_compared_with_their_references(tmp_path):
    pytest.importorskip("mel_cepstral_distance")
    t = np.arange(16_000) / 16_000
    files = []
    for pitch in (220, 440):
        files.append(tmp_path / f"{pitch}.wav")
        save(np.sin(2 * np.pi * pitch * t).astype(np.float32) * 0.3, Modality.AUDIO, files[-1], 16_000)
    same, other = MelCepstralDistance(), MelCepstralDistance()
    same.update(files, files)
    other.update(files[:1], files[1:])
    assert same.compute().item() == pytest.approx(0.0, abs=1e-6)
    assert other.compute().item() > 1
    with pytest.raises(UserError, match=r"nowhere\.wav: no such file"):
        other.update([tmp_path / "nowhere.wav"], files[:1])


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
@pytest.mark.parametrize("metric", [VqaAccuracy, MelCepstralDistance, JudgedAttributes])
def test_no_items_are_an_error_and_not_a_number(metric):
    with pytest.raises(ValueError, match="no item was given"):
        metric().compute()


_ONE_OF_TWO = """
import sys, torch
from nextgpt_pl.metrics import JudgedAttributes, VqaAccuracy
rank, folder = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
answers, judged = VqaAccuracy(), JudgedAttributes()
if rank == 0:
    answers.update(["yes"], [["yes"]])
    judged.update([{"shape": True, "colour": False}])
else:
    answers.update(["no", "no"], [["yes"], ["yes"]])
    judged.update([{"pitch": True}, {"shape": True}])
torch.save({"answers": answers.compute(), **judged.compute()}, f"{folder}/{rank}.pt")
torch.distributed.destroy_process_group()
"""


def test_two_processes_find_what_one_finds(tmp_path):
    # fresh processes: forked ones inherit the locks of the parent's threads
    commands = [[sys.executable, "-c", _ONE_OF_TWO, str(rank), str(tmp_path)] for rank in range(2)]
    processes = [subprocess.Popen(command) for command in commands]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    expected = {"answers": 1 / 3, "all right": 2 / 3, "shape": 1.0, "colour": 0.0, "pitch": 1.0}
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert {name: value.item() for name, value in found.items()} == pytest.approx(expected)
