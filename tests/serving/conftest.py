import pytest
import tiny

from nextgpt_pl.pipeline import AnyToAny
from nextgpt_pl.readers.chat import MediaAccess


@pytest.fixture(scope="module")
def model(tiny_models):
    """A tiny model as it is served: messages name no local files."""
    network = tiny.network(tiny_models)
    network.load()
    return AnyToAny(network, access=MediaAccess(folders=()))
