"""Input projections of single modalities."""

from functools import partial

import pytest

from nextgpt_pl.encoders import ImageBindEncoder
from nextgpt_pl.errors import UserError
from nextgpt_pl.llm import CausalLM
from nextgpt_pl.modality import Modality
from nextgpt_pl.model import NextGPT
from nextgpt_pl.projections import LinearInputProjection, MLPInputProjection


def _network(own, **options):
    return NextGPT(
        CausalLM("pocket:llm"),
        encoder=ImageBindEncoder("pocket:encoder", modalities=["image", "audio"], video_clips=2, audio_clips=1),
        input_projection=partial(MLPInputProjection, width=8, expand=3),
        own_input_projections=own,
        **options,
    )


def test_a_modality_has_the_projection_that_is_its_own():
    network = _network({"audio": LinearInputProjection})
    assert (network.slot_length(Modality.IMAGE), network.slot_length(Modality.AUDIO)) == (3, 1)
    network.load()
    kinds = {name: type(projection) for name, projection in network.input_projections.items()}
    assert kinds == {"image": MLPInputProjection, "audio": LinearInputProjection}


def test_one_that_serves_nothing_is_refused():
    with pytest.raises(UserError, match=r"own_input_projections\.speech: the encoder reads image, audio"):
        _network({"speech": LinearInputProjection})
    with pytest.raises(UserError, match=r"not with network\.share_input_projection=true"):
        _network({"audio": LinearInputProjection}, share_input_projection=True)
    with pytest.raises(UserError, match=r"network\.own_input_projections\.audio\.width=0"):
        _network({"audio": partial(MLPInputProjection, width=0)})
