import pytest


@pytest.fixture(scope="session")
def outputs(tmp_path_factory):
    """A folder of two runs, ``instruct/one`` and ``instruct/two``, which are the same model."""
    import shutil

    from demo_runs import save_run

    folder = tmp_path_factory.mktemp("outputs")
    shutil.copytree(save_run(folder / "instruct" / "one"), folder / "instruct" / "two")
    return folder
