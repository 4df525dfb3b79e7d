"""maxsim.score and score_pairs against their definition in float64, in both rooms on the CPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from maxsim_truth import Case, case, offsets, truth

from maxsight.kernels import maxsim
from maxsight.kernels.check.tolerance import assert_close

KINDS = [
    "float32/float32",
    "bfloat16/bfloat16",
    "float16/float16",
    "float32/bfloat16",
    "float64/float64",
    "int8/int8",
    "bfloat16/int8",
    "int8/bfloat16",
    "float32/int8",
    "float32/coded8",
    "bfloat16/coded5",
    "float32/coded4",
    "int8/coded2",
]


@pytest.fixture(params=["cpu", "reference"])
def room(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MAXSIGHT_KERNELS", request.param)
    return str(request.param)


def weights(given: Case, *, signed: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    low = -1.0 if signed else 0.0
    left = torch.rand(len(given.left), generator=generator) * (2 - low) + low
    right = torch.rand(len(given.right), generator=generator) * (2 - low) + low
    return left, right


@pytest.mark.parametrize("d", [48, 96, 128, 512])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_definition(room: str, kind: str, d: int) -> None:
    given = case(kind, d)
    expected, places = truth(given)
    assert_close("scores", maxsim.score(*given.sides), expected, torch.float32)
    scores, argmax = maxsim.answers(*given.sides)
    assert_close("scores with the arg-max", scores, expected, torch.float32)
    assert argmax.dtype == torch.int32
    assert_answers_are_best(given, argmax, places)


def assert_answers_are_best(given: Case, argmax: torch.Tensor, places: torch.Tensor) -> None:
    """The same token, or one whose similarity float32 cannot tell from it."""
    assert argmax.shape == places.shape
    assert torch.equal(argmax < 0, places < 0)
    starts = given.document_offsets[:-1]
    for row, column in (argmax != places).nonzero().tolist():
        pair = [int(starts[column] + found[row, column]) for found in (argmax, places)]
        left, right = (given.right[pair] @ given.left[row]).tolist()
        assert left == pytest.approx(right, rel=1e-5)


@pytest.mark.parametrize("kind", ["float32/float32", "bfloat16/bfloat16", "int8/int8"])
def test_of_equal_tokens_the_first_answers(room: str, kind: str) -> None:
    given = case(kind, 48, queries=[40], documents=[30, 0, 200])
    twice = torch.cat([torch.arange(30), torch.arange(30, 230).remainder(50) + 30])
    assert not isinstance(given.documents, maxsim.CodedTokens)
    if isinstance(given.documents, maxsim.Int8Tokens):
        repeated: maxsim.Int8Tokens | torch.Tensor = maxsim.Int8Tokens(
            given.documents.values[twice], given.documents.scale[twice]
        )
    else:
        repeated = given.documents[twice]
    sides = given.queries, given.query_offsets, repeated, given.document_offsets
    _, argmax = maxsim.answers(*sides)
    assert (argmax[:, 1] == -1).all()
    assert int(argmax[:, 2].max()) < 50


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(
    "kind", ["float32/float32", "bfloat16/bfloat16", "int8/int8", "bfloat16/coded4"]
)
def test_weights_and_normalisation(room: str, kind: str, signed: bool, normalize: bool) -> None:
    given = case(kind, 96)
    left, right = weights(given, signed=signed)
    expected, places = truth(given, query_weight=left, document_weight=right, normalize=normalize)
    scores = maxsim.score(
        *given.sides, query_weight=left, document_weight=right, normalize=normalize
    )
    assert_close("scores", scores, expected, torch.float32)
    scores, argmax = maxsim.answers(
        *given.sides, query_weight=left, document_weight=right, normalize=normalize
    )
    assert_close("scores", scores, expected, torch.float32)
    assert torch.equal(argmax < 0, places < 0)
    assert float((argmax == places).float().mean()) > 0.999


def test_a_zero_token_normalises_to_zero(room: str) -> None:
    tokens = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    one = torch.tensor([0, 2])
    assert maxsim.score(tokens, one, tokens, one, normalize=True).tolist() == [[1.0]]


def test_a_size_as_document_weight_scales_the_similarity_inside_the_maximum(room: str) -> None:
    documents = torch.tensor([[1.0], [2.0]])
    query = torch.tensor([[1.0]])
    scores, argmax = maxsim.answers(
        query,
        torch.tensor([0, 1]),
        documents,
        torch.tensor([0, 2]),
        query_weight=torch.tensor([10.0]),
        document_weight=torch.tensor([3.0, 1.0]),
    )
    assert scores.tolist() == [[30.0]]
    assert argmax.tolist() == [[0]]


@pytest.mark.parametrize("kind", ["float32/float32", "bfloat16/bfloat16"])
def test_one_document_of_4096_tokens_among_short_ones(room: str, kind: str) -> None:
    given = case(kind, 48, queries=[32], documents=[1, 4096, 0, 3])
    expected, _ = truth(given)
    assert_close("scores", maxsim.score(*given.sides), expected, torch.float32)


def test_nothing_at_all(room: str) -> None:
    none, one = torch.empty(0, 8), torch.tensor([0])
    assert maxsim.score(none, one, none, one).shape == (0, 0)
    assert maxsim.score(none, torch.tensor([0, 0]), none, torch.tensor([0, 0, 0])).tolist() == [
        [0.0, 0.0]
    ]
    tokens, bounds = torch.ones(2, 8), torch.tensor([0, 2])
    assert maxsim.score(none, one, tokens, bounds).shape == (0, 1)
    assert maxsim.score(tokens, bounds, none, one).shape == (1, 0)
    assert maxsim.score(tokens, bounds, none, torch.tensor([0, 0])).tolist() == [[-torch.inf]]
    assert maxsim.score(none, torch.tensor([0, 0]), tokens, bounds).tolist() == [[0.0]]
    empty = torch.empty(0, 2, dtype=torch.int64)
    assert maxsim.score_pairs(tokens, bounds, tokens, bounds, pairs=empty).shape == (0,)


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_are_entries_of_the_matrix(room: str, kind: str) -> None:
    given = case(kind, 48)
    expected, _ = truth(given)
    pairs = torch.tensor([[2, 3], [0, 1], [0, 0], [1, 2], [3, 3], [2, 3], [2, 5]])
    plain = maxsim.score_pairs(*given.sides, pairs=pairs)
    assert_close("scores", plain, expected[pairs[:, 0], pairs[:, 1]], torch.float32)


def test_without_a_list_the_ith_query_meets_the_ith_document(room: str) -> None:
    given = case("float32/float32", 48, queries=[2, 0, 5, 1], documents=[9, 3, 0, 63])
    expected, _ = truth(given)
    scores = maxsim.score_pairs(*given.sides)
    assert_close("scores", scores, expected.diagonal(), torch.float32)


@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_permuting_documents_permutes_scores(data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(0, 40), max_size=8))
    order = data.draw(st.permutations(range(len(lengths))))
    given = case("bfloat16/bfloat16", 16, queries=[4, 1], documents=lengths)
    bounds = given.document_offsets.tolist()
    assert isinstance(given.documents, torch.Tensor)
    parts = [given.documents[bounds[i] : bounds[i + 1]] for i in order]
    moved = torch.cat([given.documents[:0], *parts])
    scores = maxsim.score(*given.sides)
    permuted = maxsim.score(
        given.queries, given.query_offsets, moved, offsets([lengths[i] for i in order])
    )
    assert torch.equal(permuted, scores[:, list(order)])


def test_views_and_strides_do_not_matter(room: str) -> None:
    given = case("float32/float32", 48)
    assert isinstance(given.queries, torch.Tensor)
    assert isinstance(given.documents, torch.Tensor)
    strided = torch.randn(len(given.documents), 2, 48)
    strided[:, 1] = given.documents
    scores = maxsim.score(
        given.queries.T.contiguous().T,
        given.query_offsets,
        strided[:, 1],
        given.document_offsets,
    )
    assert_close("scores", scores, truth(given)[0], torch.float32)


def test_memory_that_nobody_wrote_is_never_read(room: str) -> None:
    given = case("bfloat16/bfloat16", 96)
    torch.use_deterministic_algorithms(True)  # torch.empty then returns NaN
    try:
        assert torch.empty(3).isnan().all()
        scores, argmax = maxsim.answers(*given.sides)
        fast = maxsim.score(*given.sides)
        best, _ = maxsim.topk(*given.sides, 20)
        pairs = maxsim.score_pairs(*given.sides, pairs=torch.tensor([[0, 1], [1, 0]]))
    finally:
        torch.use_deterministic_algorithms(False)
    expected, places = truth(given)
    assert_close("scores", scores, expected, torch.float32)
    assert_close("scores", fast, expected, torch.float32)
    assert_answers_are_best(given, argmax, places)
    assert not best.isnan().any()
    assert pairs.isfinite().all()


def test_messages_say_what_is_wrong(room: str) -> None:
    tokens, bounds = torch.ones(3, 4), torch.tensor([0, 3])

    def refused(match: str, *sides: Any, **options: Any) -> None:
        with pytest.raises(ValueError, match=match):
            maxsim.score(*sides, **options)

    refused("share d", tokens, bounds, torch.ones(3, 5), bounds)
    refused("must be .sum L, d.", tokens[0], bounds, tokens, bounds)
    refused("must be .sum L, d.", tokens.long(), bounds, tokens, bounds)
    refused("int64", tokens, bounds.int(), tokens, bounds)
    refused("end at the 3 tokens", tokens, bounds, tokens, torch.tensor([0, 2]))
    refused("never fall", tokens, bounds, tokens, torch.tensor([0, 4, 3]))
    refused("start at 0", tokens, torch.tensor([1, 3]), tokens, bounds)
    refused("one a token", tokens, bounds, tokens, bounds, query_weight=torch.ones(2))
    refused("scale", maxsim.Int8Tokens(tokens.char(), tokens), bounds, tokens, bounds)
    with pytest.raises(ValueError, match="as many queries"):
        maxsim.score_pairs(tokens, bounds, tokens, torch.tensor([0, 1, 3]))
    with pytest.raises(ValueError, match=r"got \[0, 1\]"):
        maxsim.score_pairs(tokens, bounds, tokens, bounds, pairs=torch.tensor([[0, 1]]))
    with pytest.raises(ValueError, match="k must"):
        maxsim.topk(tokens, bounds, tokens, bounds, 0)


@pytest.mark.parametrize("kind", ["float32/float32", "int8/int8", "float32/coded5"])
def test_a_packing_stands_for_its_offsets(room: str, kind: str) -> None:
    given = case(kind, 48)
    asked = maxsim.Packing.of(given.query_offsets, len(given.left))
    answering = maxsim.Packing.of(given.document_offsets, len(given.right))
    packed = given.queries, asked, given.documents, answering
    assert torch.equal(maxsim.score(*packed), maxsim.score(*given.sides))
    assert torch.equal(maxsim.topk(*packed, 3)[1], maxsim.topk(*given.sides, 3)[1])
    pairs = torch.tensor([[2, 3], [0, 1], [1, 2]])
    assert torch.equal(
        maxsim.score_pairs(*packed, pairs=pairs), maxsim.score_pairs(*given.sides, pairs=pairs)
    )


def test_a_packing_keeps_what_was_asked(room: str) -> None:
    tokens, bounds = torch.ones(3, 4), torch.tensor([0, 3])
    packing = maxsim.Packing.of(bounds, 3)
    bounds[1] = 1000
    assert packing.offsets.tolist() == [0, 3]
    for wrong in torch.tensor([0, 2]), torch.tensor([0, 4, 3]), torch.tensor([1, 3]):
        with pytest.raises(ValueError, match="packed offsets must"):
            maxsim.Packing.of(wrong, 3)
    with pytest.raises(ValueError, match="int64"):
        maxsim.Packing.of(bounds.int(), 3)
    with pytest.raises(ValueError, match="document packing is of 3 tokens, got 2"):
        maxsim.score(tokens, packing, tokens[:2], packing)
