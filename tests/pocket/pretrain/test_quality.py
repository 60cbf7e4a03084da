from pathlib import Path

import pytest
from omegaconf import OmegaConf

from nextgpt_pl.modality import GENERATED
from nextgpt_pl.pocket.parts import pocket_decoder

MODELS = Path(__file__).parents[3] / "experiments" / "models"


@pytest.mark.parametrize("tier", ["pocket", "smol"])
def test_decoders_are_measured_as_the_experiments_use_them(tier):
    decoders = OmegaConf.to_container(OmegaConf.load(MODELS / f"{tier}.yaml"))["init_args"]["decoders"]
    for modality in GENERATED:
        assert pocket_decoder(modality).sampling == decoders[modality.value]["init_args"]["sampling"]
