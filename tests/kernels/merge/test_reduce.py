"""Reducing packed documents, and Ward's clustering beside it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import linkage  # type: ignore[import-untyped]
from tome import tome
from torch import Tensor
from ward import ward

from maxsight.kernels import merge
from maxsight.kernels.check.tolerance import assert_close


def packed(lengths: list[int], dim: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Random tokens and offsets of documents of these lengths."""
    tokens = torch.randn(sum(lengths), dim, generator=torch.Generator().manual_seed(seed))
    return tokens, torch.tensor([0, *lengths]).cumsum(0)


@pytest.mark.usefixtures("room")
@pytest.mark.parametrize(("limit", "protected"), [(1, 0), (3, 0), (16, 0), (16, 3), (1000, 1)])
@pytest.mark.parametrize("weighted", [True, False])
def test_every_document_goes_through_rounds_of_tome(
    limit: int, protected: int, weighted: bool
) -> None:
    lengths = [0, 1, 63, 2, 17, 0, 123, 16, 5, 40, 41, 39]
    tokens, offsets = packed(lengths, 24, seed=0)
    sizes = torch.randint(1, 4, (len(tokens),), generator=torch.Generator().manual_seed(1))
    reduced = merge.reduce(
        tokens, offsets, limit, sizes=sizes, protected=protected, weighted=weighted
    )
    for document, length in enumerate(lengths):
        start, begin = int(offsets[document]), int(reduced.offsets[document])
        part, weights = tokens[start : start + length], sizes[start : start + length].tolist()
        source = list(range(length))
        while len(part) > limit:
            r = len(part) - limit
            step = tome(part, weights, part, r, protected=protected, weighted=weighted)
            part, weights = step.tokens, step.sizes
            source = [step.source[place] for place in source]
        end = int(reduced.offsets[document + 1])
        assert end - begin == len(part) == min(length, limit)
        assert (reduced.source[start : start + length] - begin).tolist() == source
        assert_close("tokens", reduced.tokens[begin:end], part.double(), torch.float32)
        assert reduced.sizes[begin:end].tolist() == weights


@settings(deadline=None, max_examples=30)
@given(
    lengths=st.lists(st.sampled_from([0, 1, 2, 7, 64, 300]), max_size=6),
    limit=st.integers(1, 40),
    seed=st.integers(0, 2**20),
)
def test_each_row_is_the_mean_of_what_went_there(lengths: list[int], limit: int, seed: int) -> None:
    tokens, offsets = packed(lengths, 6, seed=seed)
    assert_means(tokens, offsets, merge.reduce(tokens, offsets, limit), limit)


def test_lengths_nought_one_and_thousands_together() -> None:
    tokens, offsets = packed([0, 1, 4096, 0, 200, 1], 32, seed=0)
    assert_means(tokens, offsets, merge.reduce(tokens, offsets, 16), 16)


def assert_means(tokens: Tensor, offsets: Tensor, reduced: merge.Reduced, limit: int) -> None:
    """Lengths, sizes and rows are what ``reduced.source`` says."""
    lengths = offsets.diff()
    assert torch.equal(reduced.offsets.diff(), lengths.clamp(max=limit))
    rows, total = len(reduced.tokens), int(reduced.offsets[-1])
    assert rows == total
    counts = reduced.source.bincount(minlength=rows)
    assert torch.equal(reduced.sizes, counts.float())
    document = torch.arange(len(lengths)).repeat_interleave(lengths)
    kept = torch.arange(len(lengths)).repeat_interleave(reduced.offsets.diff())
    assert torch.equal(kept[reduced.source], document)
    sums = torch.zeros(rows, tokens.shape[1], dtype=torch.float64)
    sums.index_add_(0, reduced.source, tokens.double())
    assert_close("tokens", reduced.tokens, sums / counts[:, None], torch.float32)


def test_no_documents() -> None:
    reduced = merge.reduce(torch.ones(0, 4), torch.tensor([0]), 3)
    assert reduced.tokens.shape == (0, 4)
    assert reduced.offsets.tolist() == [0]


@pytest.mark.parametrize("limit", [1, 4, 11, 60])
def test_ward_is_scipys(limit: int) -> None:
    lengths = [0, 1, 40, 25]
    tokens, offsets = packed(lengths, 5, seed=limit)
    reduced = ward(tokens, offsets, limit)
    assert_means(tokens, offsets, reduced, limit)
    for document, length in enumerate(lengths):
        start = int(offsets[document])
        own = reduced.source[start : start + length]
        if length > 1:
            tree = linkage(tokens[start : start + length].double().numpy(), "ward")
            expected = _groups(tree, length, limit)
            assert {frozenset((own == g).nonzero().flatten().tolist()) for g in own} == expected


def _groups(tree: object, count: int, limit: int) -> set[frozenset[int]]:
    """The clusters after all but ``limit - 1`` of the tree's unions."""
    clusters = {i: frozenset([i]) for i in range(count)}
    for step in range(max(0, count - limit)):
        left, right = (clusters.pop(int(tree[step][side])) for side in (0, 1))  # type: ignore[index]
        clusters[count + step] = left | right
    return set(clusters.values())


def test_ward_loses_less_than_rounds() -> None:
    draw = torch.Generator().manual_seed(0)
    centres = torch.randn(12, 16, generator=draw)
    tokens = centres[torch.randint(12, (200,), generator=draw)]
    tokens = tokens + 0.3 * torch.randn(200, 16, generator=draw)
    offsets = torch.tensor([0, 200])

    def loss(reduced: merge.Reduced) -> float:
        return float((tokens - reduced.tokens[reduced.source]).square().sum())

    slow, fast = (way(tokens, offsets, 20) for way in (ward, merge.reduce))
    chance = merge.reduce(torch.randn(200, 16, generator=draw), offsets, 20).source
    random = merge.Reduced(
        torch.zeros(20, 16).index_add(0, chance, tokens) / chance.bincount()[:, None],
        fast.offsets,
        fast.sizes,
        chance,
    )
    assert loss(slow) <= loss(fast) < 0.5 * loss(random)


@pytest.mark.parametrize(
    ("tokens", "offsets", "limit", "options"),
    [
        (torch.ones(3), torch.tensor([0, 3]), 2, {}),
        (torch.ones(3, 2), torch.tensor([0.0, 3.0]), 2, {}),
        (torch.ones(3, 2), torch.tensor([0, 2]), 2, {}),
        (torch.ones(3, 2), torch.tensor([0, 2, 1, 3]), 2, {}),
        (torch.ones(3, 2), torch.tensor([0, 3]), 0, {}),
        (torch.ones(3, 2), torch.tensor([0, 3]), 2, {"protected": 2}),
        (torch.ones(3, 2), torch.tensor([0, 3]), 2, {"sizes": torch.ones(2)}),
    ],
)
def test_wrong_arguments_are_refused(
    tokens: Tensor,
    offsets: Tensor,
    limit: int,
    options: dict,  # type: ignore[type-arg]
) -> None:
    with pytest.raises(ValueError, match="must"):
        merge.reduce(tokens, offsets, limit, **options)
