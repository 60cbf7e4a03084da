import numpy as np
import pytest

from nextgpt_pl.errors import UserError
from nextgpt_pl.media.writing import save
from nextgpt_pl.metrics.mel_cepstral import mel_cepstral_distances
from nextgpt_pl.modality import Modality


def test_sounds_are_compared_with_their_references(tmp_path):
    pytest.importorskip("mel_cepstral_distance")
    t = np.arange(16_000) / 16_000
    files = []
    for pitch in (220, 440):
        files.append(tmp_path / f"{pitch}.wav")
        save(np.sin(2 * np.pi * pitch * t).astype(np.float32) * 0.3, Modality.AUDIO, files[-1], 16_000)
    assert mel_cepstral_distances(files, files) == pytest.approx([0.0, 0.0], abs=1e-6)
    assert mel_cepstral_distances(files[:1], files[1:])[0] > 1
    with pytest.raises(UserError, match=r"nowhere\.wav: no such file"):
        mel_cepstral_distances([tmp_path / "nowhere.wav"], files[:1])
