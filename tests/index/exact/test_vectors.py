"""Exact search against the plain torch truth."""

from __future__ import annotations

import itertools
from typing import Any

import faiss
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maxsight.index.exact.gpu import WARM_UP_QUERIES, GpuFlat
from maxsight.index.exact.memory import BLOCK_ROWS, ExactIndex
from maxsight.index.faiss_build import gpu_count
from maxsight.kernels import native, similarity
from maxsight.kernels.halves import unpack

MANY = 128


@pytest.fixture(params=[True, False], ids=["compiled", "NumPy"])
def scan(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Candidates of the compiled scan, and those of an installation without a compiler."""
    if not request.param:
        monkeypatch.setattr(native, "available", lambda: None)
    elif native.available() is None:
        pytest.skip("not compiled")


def normalised(count: int, dim: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def truth(
    queries: np.ndarray, stored: np.ndarray, k: int, allowed: np.ndarray | None = None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """``(rows, scores)`` of the float16 vectors, summed in float64."""
    scores, rows = similarity.topk(
        torch.from_numpy(queries).double(),
        torch.from_numpy(stored),
        k,
        allowed=None if allowed is None else torch.from_numpy(allowed),
    )
    return [
        (row[row >= 0].numpy(), score[row >= 0].numpy())
        for row, score in zip(rows, scores, strict=True)
    ]


def assert_same(found: list[Any], expected: list[Any]) -> None:
    assert len(found) == len(expected)
    for (rows, scores), (true_rows, true_scores) in zip(found, expected, strict=True):
        np.testing.assert_allclose(scores, true_scores, atol=1e-6)
        # Two different rows may change places only where float32 cannot tell their scores apart.
        assert len(set(rows.tolist())) == len(rows)
        score_of = dict(zip(true_rows.tolist(), true_scores.tolist(), strict=True))
        for row, true_row, score in zip(rows.tolist(), true_rows.tolist(), scores, strict=True):
            assert row == true_row or abs(score_of.get(row, true_scores[-1]) - score) < 1e-6


@pytest.mark.usefixtures("scan")
@pytest.mark.parametrize("dim", [1, 48, 513])
@pytest.mark.parametrize("count", [0, 1, 63, BLOCK_ROWS, BLOCK_ROWS + 1, 2 * BLOCK_ROWS + 123])
@pytest.mark.parametrize("queries", [0, 1, 7, MANY])
def test_odd_sizes(dim: int, count: int, queries: int) -> None:
    if dim == 1:
        stored = np.ones((count, 1), dtype=np.float16)
        asked = np.ones((queries, 1), dtype=np.float32)
    else:
        stored = normalised(count, dim).astype(np.float16)
        asked = normalised(queries, dim, seed=1)
    found = ExactIndex(dim).extended([stored]).search(asked, 10)
    assert_same(found, truth(asked, stored, 10))


@pytest.mark.usefixtures("scan")
@pytest.mark.parametrize("share", [0.0, 1e-4, 0.01, 0.3, 0.999])
@pytest.mark.parametrize("queries", [1, 5, MANY])
@pytest.mark.parametrize("k", [1, 10, 400])
def test_masks_however_narrow(share: float, queries: int, k: int) -> None:
    stored = normalised(2 * BLOCK_ROWS + 777, 40).astype(np.float16)
    asked = normalised(queries, 40, seed=1)
    allowed = np.random.default_rng(2).random(len(stored)) < share
    index = ExactIndex(40).extended([stored])
    found = index.search(asked, k, allowed=allowed)
    assert all(allowed[rows].all() for rows, _ in found)
    assert all(len(rows) == min(k, allowed.sum()) for rows, _ in found)
    assert_same(found, truth(asked, stored, k, allowed))


@pytest.mark.usefixtures("scan")
@pytest.mark.parametrize("queries", [1, MANY])
@pytest.mark.parametrize("copies", [3, 60, 9000])
def test_equal_vectors_rank_by_row_across_blocks(queries: int, copies: int) -> None:
    """The same picture many times over: a scan block by block gives these in any order."""
    random = np.random.default_rng(0)
    stored = normalised(2 * BLOCK_ROWS + 100, 64).astype(np.float16)
    places = np.sort(random.choice(len(stored), copies, replace=False))
    stored[places] = stored[places[0]]
    asked = np.repeat(stored[places[:1]].astype(np.float32), queries, axis=0)
    found = ExactIndex(64).extended([stored]).search(asked, 20)
    for rows, scores in found:
        np.testing.assert_array_equal(rows[: min(20, copies)], places[:20])
        assert len(set(scores[: min(20, copies)].tolist())) == 1


@settings(deadline=None, max_examples=20)
@given(
    sizes=st.lists(st.integers(0, 2 * BLOCK_ROWS), max_size=5),
    queries=st.sampled_from([1, 4, MANY]),
    k=st.sampled_from([1, 7, 300]),
    seed=st.integers(0, 100),
)
def test_growing_in_steps_equals_growing_at_once(
    sizes: list[int], queries: int, k: int, seed: int
) -> None:
    stored = normalised(sum(sizes), 16, seed).astype(np.float16)
    ends = list(itertools.accumulate(sizes, initial=0))
    index = ExactIndex(16)
    shorter = []
    for start, end in itertools.pairwise(ends):
        index = index.extended([stored[start:end]])
        shorter.append((index, end))
    asked = normalised(queries, 16, seed + 1)
    at_once = ExactIndex(16).extended([stored]).search(asked, k)
    for (rows, scores), (same_rows, same_scores) in zip(
        index.search(asked, k), at_once, strict=True
    ):
        np.testing.assert_array_equal(rows, same_rows)
        np.testing.assert_array_equal(scores, same_scores)
    for part, end in shorter:
        assert len(part) == end
        assert_same(part.search(asked, k), truth(asked, stored[:end], k))
        np.testing.assert_array_equal(part.take(np.arange(end)), stored[:end])


def test_scores_do_not_depend_on_the_batch() -> None:
    stored = normalised(20_000, 100).astype(np.float16)
    index = ExactIndex(100).extended([stored])
    asked = normalised(MANY, 100, seed=1)
    together = index.search(asked, 12)
    for query, (rows, scores) in zip(asked[:20], together, strict=False):
        (alone,) = index.search(query[None], 12)
        np.testing.assert_array_equal(rows, alone[0])
        np.testing.assert_array_equal(scores, alone[1])
        np.testing.assert_array_equal(scores, index.scores(query, rows))
    everything = index.scores(asked[0], slice(0, len(index)))
    np.testing.assert_array_equal(everything[together[0][0]], together[0][1])
    np.testing.assert_allclose(everything, stored.astype(np.float64) @ asked[0], atol=1e-6)
    assert index.scores(asked[0], slice(5, 5)).shape == (0,)


def test_unpacking_is_exact_for_every_finite_number() -> None:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)].reshape(1, -1)
    unpacked = unpack(finite)
    np.testing.assert_array_equal(unpacked.view(np.int32), finite.astype(np.float32).view(np.int32))


def test_growing_copies_one_block_at_most() -> None:
    short = ExactIndex(8).extended([normalised(BLOCK_ROWS + 5, 8).astype(np.float16)])
    longer = short.extended([normalised(10, 8, 1).astype(np.float16)])
    assert longer._blocks[0] is short._blocks[0]
    assert [len(block) for block in longer._blocks] == [BLOCK_ROWS, 15]
    assert longer._blocks[-1].base is None  # not a part of a full block's memory


@pytest.mark.parametrize(
    ("queries", "k", "allowed"),
    [
        (np.ones((1, 5)), 1, None),
        (np.ones(4), 1, None),
        (np.ones((1, 4)), 0, None),
        (np.full((1, 4), np.nan), 1, None),
        (np.ones((1, 4)), 1, np.ones(3, dtype=bool)),
    ],
)
def test_wrong_arguments_are_refused(queries: np.ndarray, k: int, allowed: Any) -> None:
    index = ExactIndex(4).extended([normalised(10, 4).astype(np.float16)])
    with pytest.raises(ValueError, match="must be"):
        index.search(queries, k, allowed=allowed)


def coarse(dim: int) -> Any:
    """A FAISS index as inexact as a GPU's: it rounds vectors to float16 and sums elsewhere."""
    return faiss.IndexScalarQuantizer(
        dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )


def check_candidates_from(gpu: GpuFlat) -> None:
    stored = normalised(5000, 32).astype(np.float16)
    stored[100:160] = stored[100]
    short = ExactIndex(32, gpu=gpu).extended([stored[:4000]])
    whole = short.extended([stored[4000:]])
    asked = np.concatenate([normalised(WARM_UP_QUERIES, 32, 1), stored[100:101].astype("f4")])
    allowed = np.random.default_rng(0).random(5000) < 0.2
    for _ in range(2):
        assert_same(whole.search(asked, 10), truth(asked, stored, 10))
        assert_same(short.search(asked, 10), truth(asked, stored[:4000], 10))
        assert_same(whole.search(asked, 10, allowed=allowed), truth(asked, stored, 10, allowed))
        assert_same(whole.search(asked[:3], 3000), truth(asked[:3], stored, 3000))


def test_candidates_of_another_index_are_checked_and_completed() -> None:
    """What the GPU path does, with an index that runs here: rows beyond this snapshot, masked
    rows, ties wider than what was fetched, more neighbours than a GPU gives."""
    index = coarse(32)
    check_candidates_from(GpuFlat(32, index))
    assert index.ntotal == 5000


@pytest.mark.skipif(not gpu_count(), reason="needs a GPU and a GPU build of FAISS")
def test_candidates_of_a_gpu() -> None:
    check_candidates_from(GpuFlat(32))
