import numpy as np
import pytest

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
