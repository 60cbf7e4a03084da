"""Whatever is in a run's folder: it is resumed to the weights of an uninterrupted run, or an error says why not."""

import copy

import pytest
import torch
from exploring import exploration, outcome
from hypothesis import strategies as st
from mutations import DAMAGES, damaged, places
from torch import Tensor

from nextgpt_pl.training.checkpoint_io import AtomicCheckpointIO, newest


@exploration(few=5, many=200)
@pytest.mark.filterwarnings("ignore:skipped")
def test_a_damaged_checkpoint_is_not_read(explore, runs, tmp_path):
    whole = torch.load(runs.folder / runs.last, weights_only=True)
    path = tmp_path / "checkpoints" / "step_000009.ckpt"
    path.parent.mkdir()
    other = path.with_name("step_000001.ckpt")

    def read(damages):
        path.write_bytes(damaged(runs.files[runs.last], damages))
        other.write_bytes(runs.files[min(name for name in runs.files if name.name.startswith("step_"))])
        found, _ = newest(path.parent)
        said = outcome(AtomicCheckpointIO().load_checkpoint, path, names=("step_000009.ckpt",))
        assert said == "refused" or _equal(AtomicCheckpointIO().load_checkpoint(path), whole)
        assert outcome(AtomicCheckpointIO().load_checkpoint, found) == "right"  # what is resumed can be read
        return said

    explore(read, damages=DAMAGES)


def _equal(one, other):
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return one == other


@exploration(few=2, many=80)
def test_a_run_with_damaged_files_is_resumed_or_refused(explore, runs, tmp_path):
    def read(which, damages):
        runs.restore(tmp_path)
        name = sorted(runs.files)[which % len(runs.files)]
        (tmp_path / name).write_bytes(damaged(runs.files[name], damages))
        return runs.resume(tmp_path)

    assert runs.restore(tmp_path).is_dir()
    assert runs.resume(tmp_path) == "right"
    explore(read, which=st.integers(0, 99), damages=DAMAGES)


@st.composite
def _changed(draw, whole):
    """A checkpoint without one of its entries, or with a tensor of another shape or with values that are not finite."""
    checkpoint = copy.deepcopy(whole)
    known = places(whole)
    tensors = [path for path in known if isinstance(_at(whole, path), Tensor) and "callbacks" not in path]
    entries = [path for path in known if len(path) <= 3 and isinstance(_at(whole, path[:-1]), dict)]
    drop = draw(st.booleans())
    path = draw(st.sampled_from(entries if drop else tensors))
    node = _at(checkpoint, path[:-1])
    if drop:
        del node[path[-1]]
    else:
        value = node[path[-1]]
        node[path[-1]] = draw(
            st.sampled_from([value.flatten()[None], value[:0] if value.ndim else value * float("nan"), value / 0])
        )
    return ".".join(map(str, path)), checkpoint


def _at(node, path):
    for key in path:
        node = node[key]
    return node


@exploration(few=2, many=80)
def test_a_changed_checkpoint_is_resumed_or_refused(explore, runs, tmp_path):
    """One that another program wrote, or another version."""
    whole = torch.load(runs.folder / runs.last, weights_only=True)

    def read(change):
        _, checkpoint = change
        run = runs.restore(tmp_path)
        torch.save(checkpoint, tmp_path / runs.last)
        ended = runs.fit(tmp_path)
        assert ended.code is not None, ended.output
        assert "Traceback" not in ended.output, ended.output
        assert ended.code in (0, 2), (ended.code, ended.output)
        assert (ended.code == 0) == (run / "adapter").is_dir()
        return "resumed" if ended.code == 0 else "refused"

    explore(read, change=_changed(whole))
