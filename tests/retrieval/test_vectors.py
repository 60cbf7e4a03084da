"""Compact vectors and their index: components, distances, recall, and files that are damaged."""

import sys

import numpy as np
import pytest
import torch

from nextgpt_pl.errors import UserError
from nextgpt_pl.retrieval.compact import Compact, flat_embeddings
from nextgpt_pl.retrieval.vector_index import VectorIndex, lists_for, sample_size, write_index


def _low_rank(count, rank=6, width=40):
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(rank, width, generator=generator)
    return torch.randn(count, rank, generator=generator) @ basis + 3.0


def test_components_are_orthonormal_and_keep_the_distances_of_what_they_span():
    embeddings = _low_rank(50)
    compact = Compact.fit(embeddings, 16)
    assert compact.axes.shape == (40, 6)  # the rank, not the highest number of dimensions
    torch.testing.assert_close(compact.axes.T @ compact.axes, torch.eye(6), atol=1e-4, rtol=0)
    vectors = torch.from_numpy(compact(embeddings))
    torch.testing.assert_close(torch.pdist(vectors), torch.pdist(embeddings), atol=1e-3, rtol=1e-3)
    mean_distance = np.mean(compact.distances(compact.mean, embeddings))
    assert mean_distance == pytest.approx(1.0, rel=1e-4)  # distances are relative to the variance


def test_equal_embeddings_and_embeddings_that_are_not_finite_are_refused(tmp_path):
    with pytest.raises(UserError, match="two different captions"):
        Compact.fit(torch.ones(4, 8), 2)
    with pytest.raises(UserError, match="'second' has numbers that are not finite"):
        flat_embeddings(lambda _: torch.tensor([[1.0], [float("nan")]]), ["first", "second"])
    compact = Compact.fit(_low_rank(9), 4)
    compact.write(tmp_path / "p.safetensors")
    assert torch.equal(Compact.read(tmp_path / "p.safetensors").axes, compact.axes)
    (tmp_path / "p.safetensors").write_bytes(b"no tensors")
    with pytest.raises(UserError, match=r"p\.safetensors: cannot be read"):
        Compact.read(tmp_path / "p.safetensors")


def _clustered(count=6000, width=24):
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((200, width))
    own = 0.3 * generator.standard_normal((count, width))
    return (centres[generator.integers(0, 200, count)] + own).astype(np.float32)


def test_the_index_finds_the_nearest_vectors_and_is_exact_where_it_is_small(tmp_path):
    pytest.importorskip("faiss")
    vectors = _clustered()
    assert lists_for(len(vectors)) > 1
    assert lists_for(100) == 1
    queries = vectors[::200] + 0.05
    for name, some, least in (("large", vectors, 0.95), ("small", vectors[:500], 1.0)):
        write_index(tmp_path / name, some[: sample_size(len(some))], np.array_split(some, 7), len(some))
        index = VectorIndex(tmp_path / name, len(some), some.shape[1], probes=16)
        exact = ((queries[:, None] - some[None]) ** 2).sum(2).argmin(1)
        found = [index.search(query, 8) for query in queries]
        assert all(len(rows) == len(set(rows)) == 8 for rows in found)
        assert np.mean([rows[0] == best for rows, best in zip(found, exact, strict=True)]) >= least
    assert len(VectorIndex(tmp_path / "small", 500, 24, 4).search(queries[0], 900)) == 500


def test_an_index_of_other_vectors_or_that_is_damaged_is_refused(tmp_path):
    pytest.importorskip("faiss")
    vectors = _clustered(300)
    write_index(tmp_path / "index", vectors, [vectors], 300)
    with pytest.raises(UserError, match="300 vectors of 24 numbers, expected 299 of 24"):
        VectorIndex(tmp_path / "index", 299, 24, 4)
    (tmp_path / "index").write_bytes((tmp_path / "index").read_bytes()[:100])
    with pytest.raises(UserError, match="not a readable index"):
        VectorIndex(tmp_path / "index", 300, 24, 4)


def test_without_faiss_the_message_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(UserError, match=r"pip install 'nextgpt-pl\[retrieval\]'"):
        VectorIndex(tmp_path / "index", 1, 1, 1)
