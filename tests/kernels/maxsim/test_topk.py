"""maxsim.topk against a sort of every score: with filters and ties."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from maxsim_truth import Case, case, offsets

from maxsight.kernels import bitmap, maxsim
from maxsight.kernels.check.tolerance import assert_close


def sorted_scores(
    scores: torch.Tensor, k: int, allowed: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The k best of each row by sorting pairs in Python."""
    best = torch.full((len(scores), min(k, scores.shape[1])), -torch.inf, dtype=scores.dtype)
    indices = torch.full(best.shape, -1)
    for row, values in enumerate(scores.tolist()):
        mask = None if allowed is None else allowed.expand_as(scores)[row].tolist()
        kept = [(-v, i) for i, v in enumerate(values) if mask is None or mask[i]]
        for place, (value, index) in enumerate(sorted(kept)[:k]):
            best[row, place], indices[row, place] = -value, index
    return best, indices


@settings(deadline=None, max_examples=80)
@given(data=st.data())
def test_equals_brute_force(data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.sampled_from([0, 1, 2, 9, 63]), max_size=30))
    kind = data.draw(
        st.sampled_from(["float32/float32", "bfloat16/bfloat16", "int8/int8", "float32/coded2"])
    )
    k = data.draw(st.sampled_from([1, 3, 100]))
    asked = data.draw(st.lists(st.sampled_from([0, 1, 5]), max_size=4))
    made = case(kind, 16, queries=asked, documents=lengths, seed=data.draw(st.integers(0, 999)))
    if kind == "float32/float32":  # small whole numbers: ties everywhere
        left, right = (side.float().clamp(-1, 1).round() for side in (made.left, made.right))
        made = Case(left, made.query_offsets, right, made.document_offsets, left, right)
    shape = data.draw(st.sampled_from([None, (len(lengths),), (len(asked), len(lengths))]))
    allowed = (
        None if shape is None else torch.rand(shape) < data.draw(st.sampled_from([0.0, 0.2, 0.8]))
    )
    packed = allowed
    if allowed is not None and data.draw(st.booleans()):
        packed = bitmap.pack(allowed)
    scores, indices = maxsim.topk(*made.sides, k, allowed=packed)
    best, places = sorted_scores(maxsim.score(*made.sides), k, allowed)
    assert_close("scores", scores, best, torch.float32)
    assert torch.equal(indices, places)


@pytest.mark.parametrize("room", ["cpu", "reference"])
def test_an_empty_document_comes_after_all_others(
    room: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAXSIGHT_KERNELS", room)
    tokens, bounds = torch.tensor([[-1.0], [2.0]]), torch.tensor([0, 0, 1, 1, 2])
    query, one = torch.tensor([[1.0]]), torch.tensor([0, 1])
    scores, indices = maxsim.topk(query, one, tokens, bounds, 4)
    assert scores.tolist() == [[2.0, -1.0, -torch.inf, -torch.inf]]
    assert indices.tolist() == [[3, 1, 0, 2]]
    some = torch.tensor([False, True, True, False])
    scores, indices = maxsim.topk(query, one, tokens, bounds, 4, allowed=some)
    assert scores.tolist() == [[-1.0] + [-torch.inf] * 3]
    assert indices.tolist() == [[1, 2, -1, -1]]
    for weight in 0.0, -1.0:
        scores = maxsim.score(query, one, tokens, bounds, query_weight=torch.tensor([weight]))
        assert scores[0, [0, 2]].tolist() == [-torch.inf] * 2


@pytest.mark.parametrize("room", ["cpu", "reference"])
def test_scores_of_minus_infinity_keep_their_documents(
    room: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAXSIGHT_KERNELS", room)
    far, one = torch.full((1, 1), -3e38), torch.tensor([0, 1])
    tokens, bounds = torch.full((3, 1), 3e38), torch.tensor([0, 1, 2, 3])  # products overflow
    scores, indices = maxsim.topk(far, one, tokens, bounds, 2)
    assert scores.tolist() == [[-torch.inf] * 2]
    assert indices.tolist() == [[0, 1]]
    each = torch.tensor([[False, False, True]])
    assert maxsim.topk(far, one, tokens, bounds, 2, allowed=each)[1].tolist() == [[2, -1]]


def test_a_query_without_tokens_scores_nothing_with_every_document() -> None:
    tokens, bounds = torch.tensor([[-1.0], [2.0]]), torch.tensor([0, 1, 1, 2])
    asked = torch.empty(0, 1), torch.tensor([0, 0])
    scores, indices = maxsim.topk(*asked, tokens, bounds, 3)
    assert scores.tolist() == [[0.0, 0.0, 0.0]]
    assert indices.tolist() == [[0, 1, 2]]
    pair = torch.tensor([[0, 1]])
    assert maxsim.score_pairs(*asked, tokens, bounds, pairs=pair).tolist() == [0.0]


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf])
def test_a_query_that_is_not_finite_is_refused(wrong: float) -> None:
    tokens, bounds = torch.ones(1, 2), torch.tensor([0, 1])
    bad = torch.tensor([[1.0, wrong]])
    for call in maxsim.score, maxsim.score_pairs:
        with pytest.raises(ValueError, match="finite"):
            call(bad, bounds, tokens, bounds)
        with pytest.raises(ValueError, match="finite"):
            call(tokens, bounds, tokens, bounds, query_weight=bad[0, 1:])
    with pytest.raises(ValueError, match="finite"):
        maxsim.topk(maxsim.Int8Tokens(tokens.char(), bad[0, 1:]), bounds, tokens, bounds, 1)


def test_memory_does_not_grow_with_the_score_matrix() -> None:
    # 3,000 x 6,000 scores would be 72 MB; what is allocated meanwhile is counted by torch.
    queries, documents = torch.randn(3000, 8), torch.randn(6000, 8)
    each, every = offsets([1] * 3000), offsets([1] * 6000)
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        maxsim.topk(queries, each, documents, every, 5)
    events = [
        event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"
    ]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    assert 0 < peak < 64 << 20
