"""maxsim.topk against a sort of every score: with filters, ties, weights and an int8 screen."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from maxsim_truth import Case, case, offsets
from tolerance import assert_close

from maxsight.kernels import bitmap, maxsim, native
from maxsight.kernels.maxsim import cpu_topk
from maxsight.kernels.maxsim.archive import Archive
from maxsight.kernels.maxsim.cpu_queries import Queries
from maxsight.kernels.maxsim.screen import CERTAINTY, allowance, coarse
from maxsight.kernels.maxsim.values import Side


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Screens however little there is to gain."""
    monkeypatch.setattr(cpu_topk, "_DOCUMENTS_EACH", 0)
    monkeypatch.setattr(cpu_topk, "_LEAST_PRODUCTS", 0)


NATIVE = pytest.mark.skipif(native.available() is None, reason="not compiled")


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


@settings(
    deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_equals_brute_force(always: None, data: st.DataObject) -> None:
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
    screen = None
    if data.draw(st.booleans()):
        screen = maxsim.Int8Screen.of(made.documents, made.document_offsets)
    packed = allowed
    if allowed is not None and data.draw(st.booleans()):
        packed = bitmap.pack(allowed)
    scores, indices = maxsim.topk(*made.sides, k, allowed=packed, screen=screen)
    best, places = sorted_scores(maxsim.score(*made.sides), k, allowed)
    assert_close("scores", scores, best, torch.float32)
    assert torch.equal(indices, places)


@pytest.mark.parametrize(
    "kind", ["float32/float32", "bfloat16/bfloat16", "bfloat16/int8", "float32/coded4"]
)
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_screen_changes_nothing(
    always: None, kind: str, normalize: bool, weighted: bool
) -> None:
    generator = torch.Generator().manual_seed(3)
    lengths = torch.randint(0, 40, (250,), generator=generator).tolist()
    given = case(kind, 64, queries=[32, 1, 0, 7], documents=lengths)
    of_documents = torch.randn(len(given.right), generator=generator) if weighted else None
    of_queries = torch.rand(len(given.left), generator=generator) if weighted else None
    screen = maxsim.Int8Screen.of(
        given.documents,
        given.document_offsets,
        document_weight=of_documents,
        normalize=normalize,
    )
    scores = maxsim.score(
        *given.sides, query_weight=of_queries, document_weight=of_documents, normalize=normalize
    )
    expected = sorted_scores(scores, 10, None)
    found = maxsim.topk(
        *given.sides,
        10,
        query_weight=of_queries,
        document_weight=of_documents,
        normalize=normalize,
        screen=screen,
    )
    assert torch.equal(found[1], expected[1])
    assert_close("scores", found[0], expected[0], torch.float32)


@pytest.mark.parametrize("size", [1e-37, 1e-30, 1e-22, 1e3, 1e6, 1e8, 1e15])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_screen_changes_nothing_for_tokens_of_any_size(
    always: None, size: float, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(4)
    tokens = (torch.randn(3000, 64, generator=generator) * size).to(dtype)
    sides = torch.randn(8, 64, generator=generator).to(dtype), offsets([8]), tokens
    bounds = offsets([12] * 250)
    screen = maxsim.Int8Screen.of(tokens, bounds)
    scores, indices = maxsim.topk(*sides, bounds, 10, screen=screen)
    expected = sorted_scores(maxsim.score(*sides, bounds), 10, None)
    assert torch.equal(indices, expected[1])
    assert torch.equal(scores, expected[0])


def test_a_negative_query_weight_is_not_screened(always: None) -> None:
    given = case("float32/float32", 16, queries=[5], documents=[7] * 50)
    screen = maxsim.Int8Screen.of(given.documents, given.document_offsets)
    weight = torch.tensor([1.0, -3.0, 0.5, -1.0, 2.0])
    scores = maxsim.score(*given.sides, query_weight=weight)
    found = maxsim.topk(*given.sides, 5, query_weight=weight, screen=screen)
    assert torch.equal(found[1], sorted_scores(scores, 5, None)[1])


@NATIVE
def test_no_true_score_exceeds_its_bound_and_the_bound_is_narrow() -> None:
    given = case("float32/float32", 128, queries=[32, 8], documents=[60] * 300)
    left, right = (
        torch.nn.functional.normalize(side, dim=1).float() for side in (given.left, given.right)
    )
    screen = maxsim.Int8Screen.of(right, given.document_offsets)
    rounded = native.prepare(
        left,
        given.query_offsets,
        coarse(screen, given.document_offsets),
        weight=None,
        seed=1,
        certainty=CERTAINTY,
    )
    approximate = native.segment_max_sum(
        screen.values,
        given.document_offsets,
        rounded.values,
        given.query_offsets,
        query_weight=rounded.step,
        row_scale=screen.scale,
        row_sums=screen.sums,
        rise=rounded.rise,
    ).T
    bound = allowance(rounded, screen.step, screen.length)
    exact = maxsim.score(left, given.query_offsets, right, given.document_offsets)
    excess = exact - approximate
    assert (excess <= bound).all()
    # Narrow enough to be of use: most documents are far below the best.
    assert (approximate + bound < exact.topk(10).values[:, -1:]).float().mean() > 0.7
    # And of the right size: a ninth of it bounds the standard deviation.
    width = approximate + bound - exact
    assert 9 * excess.std(1).max() < 2 * width.mean()


def test_the_screen_of_int8_tokens_shares_their_values_and_rounds_nothing() -> None:
    given = case("int8/int8", 64)
    assert isinstance(given.documents, maxsim.Int8Tokens)
    screen = maxsim.Int8Screen.of(given.documents, given.document_offsets)
    assert screen.values.data_ptr() == given.documents.values.data_ptr()
    assert not screen.step.any()


@pytest.mark.parametrize(
    ("documents", "k", "pays"), [(600, 10, True), (50, 10, False), (60, 1, False)]
)
def test_a_screen_is_used_where_it_pays(documents: int, k: int, pays: bool) -> None:
    given = case("bfloat16/bfloat16", 16, queries=[32], documents=[120] * documents)
    asked = Side(given.queries, given.query_offsets)
    held = Side(given.documents, given.document_offsets)
    prepared = Queries.of(asked, held, False)
    archive = Archive(held, False, torch.bfloat16)
    native_int8 = native.available() is not None and native.multiplies(torch.int8)
    assert cpu_topk.screen_pays(prepared, archive, k) == (pays and native_int8)


@pytest.mark.parametrize("wrong", [[0, 3, 2, 5], [0, 9], [-1, 5], [1, 5], [0, 2]])
def test_a_screen_with_offsets_that_do_not_cut_the_tokens_is_refused(wrong: list[int]) -> None:
    with pytest.raises(ValueError, match="start at 0, never fall, and end at the 5 tokens"):
        maxsim.Int8Screen.of(torch.ones(5, 4), torch.tensor(wrong))
    with pytest.raises(ValueError, match="int64"):
        maxsim.Int8Screen.of(torch.ones(5, 4), torch.tensor([0, 5], dtype=torch.int32))
    with pytest.raises(ValueError, match="one a token"):
        maxsim.Int8Screen.of(torch.ones(5, 4), torch.tensor([0, 5]), document_weight=torch.ones(4))


def test_a_screen_of_other_documents_is_refused() -> None:
    given = case("float32/float32", 16)
    screen = maxsim.Int8Screen.of(given.left, given.query_offsets)
    with pytest.raises(ValueError, match="make it anew"):
        maxsim.topk(*given.sides, 3, screen=screen)


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
