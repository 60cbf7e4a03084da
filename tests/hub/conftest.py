from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def hub_folder(tmp_path_factory):
    """A pushed run, and transformers without network."""
    import pushed

    with pytest.MonkeyPatch.context() as patch:
        pushed.offline(patch, tmp_path_factory.mktemp("modules"))
        yield pushed.pushed_folder(tmp_path_factory.mktemp("pushed"))


@pytest.fixture(scope="session")
def pipe(hub_folder: Path):
    """The pipeline of the folder."""
    from transformers import pipeline

    return pipeline("any-to-any", model=str(hub_folder), trust_remote_code=True, device="cpu")


@pytest.fixture(scope="session")
def chat(hub_folder: Path):
    """The folder's model without transformers' classes."""
    from nextgpt_pl import AnyToAny

    return AnyToAny.from_pretrained(hub_folder, device="cpu")
