"""Schedules against ToMe's published numbers and against what merging really removes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maxsight.kernels import merge
from maxsight.kernels.merge import Keep, Linear


def test_constant() -> None:
    assert merge.schedule(8, 12, tokens=197) == (8,) * 12


def test_list_is_followed_by_zeros() -> None:
    assert merge.schedule([16, 0, 4], 5, tokens=197) == (16, 0, 4, 0, 0)


@pytest.mark.parametrize(
    ("r", "inflection", "layers", "expected"),
    [
        # parse_r of the published code, worked out by hand from its formula.
        (8, -1, 12, (16, 14, 13, 11, 10, 8, 7, 5, 4, 2, 1, 0)),
        (8, 1, 12, (0, 1, 2, 4, 5, 7, 8, 10, 11, 13, 14, 16)),
        (8, 0, 12, (8,) * 12),
        (7, -0.5, 4, (10, 8, 6, 4)),
        (5, -1, 1, (5,)),
    ],
)
def test_linear_is_tomes(r: int, inflection: float, layers: int, expected: tuple[int]) -> None:
    assert merge.schedule(Linear(r, inflection), layers, tokens=10**6) == expected


@given(share=st.floats(0.01, 1), layers=st.integers(1, 30), tokens=st.integers(1, 600))
def test_keep_leaves_its_share(share: float, layers: int, tokens: int) -> None:
    removed = merge.schedule(Keep(share), layers, tokens=tokens, protected=1)
    wanted = (tokens - 1) - round((tokens - 1) * share)
    assert sum(removed) <= wanted
    if share >= 0.5:  # no layer is asked for more than half
        assert sum(removed) == wanted
        assert max(removed) - min(removed) <= 1


@given(
    r=st.integers(0, 60),
    layers=st.integers(0, 12),
    tokens=st.integers(0, 70),
    protected=st.integers(0, 3),
)
def test_the_numbers_are_those_that_merge_removes(
    r: int, layers: int, tokens: int, protected: int
) -> None:
    left = torch.randn(1, tokens, 2)
    for removed in merge.schedule(r, layers, tokens=tokens, protected=protected):
        merged = merge.merge(left, r, protected=protected).tokens
        assert left.shape[1] - merged.shape[1] == removed
        left = merged


@pytest.mark.parametrize("spec", [-1, [1, -2], [1] * 13, Linear(8, 2), Keep(0.0), Keep(1.5)])
def test_nonsense_is_refused(spec: merge.Schedule) -> None:
    with pytest.raises(ValueError, match=r"got|for 12 layers"):
        merge.schedule(spec, 12, tokens=197)
