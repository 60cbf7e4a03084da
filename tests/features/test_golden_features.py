"""Cached features are found by version numbers: they must be raised when features change, and only then."""

import json

import golden_features
import numpy as np
import pytest

COMMAND = "python tests/helpers/golden_features.py"


@pytest.mark.parametrize("producer", golden_features.PRODUCERS, ids=lambda p: p.__name__)
def test_features_change_with_their_version_alone(producer):
    golden = json.loads(golden_features.FILE.read_text(encoding="utf-8"))[producer.__name__]
    version, features = producer()
    assert version == golden["version"], f"write the features of version {version}: {COMMAND}"
    for name, values in golden["features"].items():
        # decoders of video files and kernels of processors differ a little
        close = np.allclose(features[name], values, rtol=2e-3, atol=2e-3 * max(np.abs(values[-24:])))
        assert close, f"{producer.__name__} gives other features of {name}: raise its VERSION, then {COMMAND}"
