"""Fixed-dimensional encodings against loops in float64, and what must hold of them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from itertools import pairwise

import fde_naive
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from topics import topic_documents
from torch import Tensor
from torch.nn.functional import normalize

from maxsight.kernels import fde
from maxsight.kernels.check.tolerance import assert_close
from maxsight.kernels.fde import randomness, simhash

LENGTHS = (0, 1, 63, 123, 0)
Encode = Callable[..., Tensor]

PINNED_PLANES = [[9, 3, -9, -7, -9, -7], [-3, -7, -3, 3, 1, -5]]
PINNED_TARGETS = [3, 2, 5, 3, 12, 0, 6, 6]
PINNED_SIGNS = [1, 1, -1, 1, -1, 1, 1, -1]
PINNED_HASH = "0c6914d4c7bad3b116a017d2bd65eb8338d52c88491253d8d411d9c3f6e42802"


@pytest.fixture(autouse=True)
def poisoned() -> Iterator[None]:
    """Fresh memory is full of NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def ragged(
    lengths: tuple[int, ...], dim: int, *, seed: int = 0, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """Unit tokens (sum L, dim) and offsets."""
    generator = torch.Generator().manual_seed(seed)
    tokens = normalize(torch.randn(sum(lengths), dim, generator=generator), dim=1).to(dtype)
    return tokens, torch.tensor([0, *np.cumsum(lengths)])


def close(found: Tensor, expected: Tensor) -> None:
    """Of the same tokens, rounded to whatever dtype: only sums in float32 differ."""
    assert_close("encodings", found, expected, torch.float32)


@pytest.mark.parametrize("encode", [fde.encode_queries, fde.encode_documents])
@pytest.mark.parametrize("room", ["reference", "cpu"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("config", "dtype"),
    [
        (fde.Config(token_dim=48, repetitions=3), torch.float32),
        (fde.Config(token_dim=96, repetitions=2, k_sim=6, projection_dim=8), torch.bfloat16),
        (fde.Config(token_dim=128, repetitions=2, k_sim=3, projection_dim=None), torch.float16),
        (fde.Config(token_dim=512, repetitions=2, k_sim=3, final_dim=100, seed=7), torch.float32),
        (fde.Config(token_dim=33, repetitions=3, k_sim=5, final_dim=64), torch.float64),
        (fde.Config(token_dim=48, repetitions=2, k_sim=5, fill_empty=False), torch.float32),
        (fde.Config(token_dim=48, repetitions=2, k_sim=0, fill_empty=False), torch.float32),
        (fde.Config(token_dim=2, repetitions=1, k_sim=9, projection_dim=1), torch.float32),
    ],
    ids=str,
)
def test_equals_the_loops(
    config: fde.Config,
    dtype: torch.dtype,
    weighted: bool,
    room: str,
    encode: Encode,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MAXSIGHT_KERNELS", room)
    tokens, offsets = ragged(LENGTHS, config.token_dim, dtype=dtype)
    sizes = None
    if weighted:
        sizes = torch.rand(len(tokens), generator=torch.Generator().manual_seed(1))
        sizes[::4] = 0
    found = encode(tokens, offsets, config, weights=sizes)
    expected = fde_naive.encode(
        tokens.double().numpy(),
        offsets.tolist(),
        None if sizes is None else sizes.double().numpy(),
        config,
        documents=encode is fde.encode_documents,
    )
    assert found.dtype == torch.float32
    close(found, torch.from_numpy(expected).float())


@pytest.mark.parametrize("encode", [fde.encode_queries, fde.encode_documents])
def test_more_cells_than_sixteen_bits_number(
    encode: Encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = fde.Config(token_dim=8, repetitions=1, k_sim=17, projection_dim=1)
    tokens, offsets = ragged((5, 0, 2), 8)
    found = encode(tokens, offsets, config)
    monkeypatch.setenv("MAXSIGHT_KERNELS", "reference")
    close(found, encode(tokens, offsets, config))


def test_random_numbers_are_pinned() -> None:
    """An index on disk is read with these: a change of them needs another SCHEME."""
    config = fde.Config(token_dim=128, final_dim=1000, seed=3)
    inner, final = randomness.inner_sketches(config), randomness.final_sketch(config)
    assert inner is not None
    assert final is not None
    assert randomness.planes(config)[:2, 0, :6].tolist() == PINNED_PLANES
    assert inner[1].target[:8].tolist() == PINNED_TARGETS
    assert inner[1].sign[:8].tolist() == PINNED_SIGNS
    parts = [randomness.planes(config).tobytes(), final.target.tobytes(), final.sign.tobytes()]
    parts += [part.tobytes() for sketch in inner for part in (sketch.target, sketch.sign)]
    assert hashlib.sha256(b"".join(parts)).hexdigest() == PINNED_HASH


def test_random_numbers_do_not_depend_on_each_other() -> None:
    config = fde.Config(token_dim=4096, repetitions=4, k_sim=2)
    normals = randomness.planes(config).reshape(8, -1).astype(np.float64)
    correlation = normals @ normals.T / (31 * 4096)  # 31 is their variance
    np.testing.assert_allclose(correlation, np.eye(8), atol=5 / math.sqrt(4096))
    inner = randomness.inner_sketches(config)
    assert inner is not None
    assert np.bincount(inner[0].target, minlength=16) == pytest.approx(256, abs=80)
    for first, second in pairwise(inner):
        assert np.mean(first.target == second.target) == pytest.approx(1 / 16, abs=0.02)
        assert np.mean(first.sign == second.sign) == pytest.approx(1 / 2, abs=0.05)


def test_tokens_share_a_cell_as_often_as_their_angle_says() -> None:
    config = fde.Config(token_dim=48, repetitions=8000, k_sim=3)
    tokens, _ = ragged((6,), 48)
    tokens = normalize(tokens + tokens[0], dim=1)
    planes = torch.from_numpy(randomness.planes(config)).float()
    codes = simhash.patterns(tokens, planes)
    shared = (codes == codes[:, :1]).double().mean(0)
    angle = torch.acos((tokens @ tokens[0]).clamp(max=1).double())
    expected = (1 - angle / math.pi) ** 3
    torch.testing.assert_close(shared, expected, rtol=0, atol=4 * 0.5 / math.sqrt(8000))


@pytest.mark.parametrize("dim", [1, 48, 128, 512, 4096])
def test_patterns_do_not_depend_on_the_batch(dim: int) -> None:
    """To the bit, however the product sums: also in float64, and in float16's range of integers."""
    config = fde.Config(token_dim=dim, repetitions=5)
    tokens, _ = ragged((200,), dim)
    tokens *= torch.logspace(-30, 30, 200).unsqueeze(1)
    planes = torch.from_numpy(randomness.planes(config)).float()
    found = simhash.patterns(tokens, planes)
    assert torch.equal(
        found, torch.cat([simhash.patterns(row, planes) for row in tokens.unsqueeze(1)], 1)
    )
    whole = simhash.integers(tokens)
    assert torch.equal(whole, whole.half().float())
    products = torch.einsum("krd,ld->krl", planes.double(), whole.double())
    assert products.abs().max() <= 1 << 24
    bits = (products > 0).int()
    weights = torch.tensor([8, 4, 2, 1], dtype=torch.int32).view(4, 1, 1)
    assert torch.equal(found, (bits * weights).sum(0, dtype=torch.int32))


def test_cells_are_numbered_by_the_gray_code() -> None:
    codes = simhash.patterns_of(torch.arange(64))
    assert torch.equal(simhash.cells_of(codes), torch.arange(64))
    steps = codes[1:] ^ codes[:-1]
    assert (steps & (steps - 1) == 0).all()  # neighbours differ in one bit


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 40), st.integers(1, 40), st.integers(1, 70), st.integers(0, 1 << 62))
def test_one_cell_is_the_plain_sum_and_mean(
    query_length: int, document_length: int, dim: int, seed: int
) -> None:
    config = fde.Config(
        token_dim=dim, repetitions=1, k_sim=0, projection_dim=None, fill_empty=False, seed=seed
    )
    query, query_offsets = ragged((query_length,), dim, seed=1)
    document, document_offsets = ragged((document_length,), dim, seed=2)
    score = (
        fde.encode_queries(query, query_offsets, config)
        @ fde.encode_documents(document, document_offsets, config).T
    )
    close(score, (query.sum(0) @ document.mean(0)).view(1, 1))


def test_sketched_scores_are_right_on_average() -> None:
    """The inner sketch keeps inner products on average: against the same cells without it."""
    repetitions = 3000
    query, query_offsets = ragged((7,), 48, seed=1)
    document, document_offsets = ragged((20,), 48, seed=2)

    def scores(projection_dim: int | None) -> Tensor:
        config = fde.Config(
            token_dim=48, repetitions=repetitions, k_sim=2, projection_dim=projection_dim
        )
        both = fde.encode_queries(query, query_offsets, config) * fde.encode_documents(
            document, document_offsets, config
        )
        return both.view(repetitions, -1).sum(1).double()

    differences = scores(8) - scores(None)
    assert abs(differences.mean()) < 4 * differences.std() / math.sqrt(repetitions)
    assert differences.std() > 0.1


def test_fewer_repetitions_are_the_first_of_more() -> None:
    tokens, offsets = ragged(LENGTHS, 48)
    few, many = (fde.Config(token_dim=48, repetitions=count) for count in (2, 5))
    found = fde.encode_documents(tokens, offsets, many)[:, : few.dim]
    close(found, fde.encode_documents(tokens, offsets, few))
    other = fde.Config(token_dim=48, repetitions=2, seed=1)
    assert not torch.allclose(found, fde.encode_documents(tokens, offsets, other))


def test_candidates_hold_the_best_document() -> None:
    """Measured: .47 of the best documents found first with 2 repetitions, .71, .91 with 20."""
    queries, documents = topic_documents(300)
    best = best_documents(queries, documents)
    assert torch.equal(best, torch.arange(300))

    def recall(repetitions: int, candidates: int) -> float:
        config = fde.Config(token_dim=queries.shape[2], repetitions=repetitions)
        scores = fde.encode_queries(*packed(queries), config) @ (
            fde.encode_documents(*packed(documents), config).T
        )
        found = scores.topk(candidates).indices == best.unsqueeze(1)
        return float(found.any(1).float().mean())

    pooled = queries.mean(1) @ documents.mean(1).T
    at_one = [recall(repetitions, 1) for repetitions in (2, 5, 20)]
    assert at_one[0] + 0.1 < at_one[1] < at_one[2] - 0.1
    assert at_one[2] > 0.85 > 0.5 > (pooled.argmax(1) == best).float().mean()
    assert recall(20, 10) > 0.985


def test_filling_gives_empty_cells_the_nearest_token() -> None:
    tokens, offsets = ragged((3, 0), 48)
    config = fde.Config(token_dim=48, repetitions=4, k_sim=4, projection_dim=None)
    bare = fde.Config(token_dim=48, repetitions=4, k_sim=4, projection_dim=None, fill_empty=False)
    filled = fde.encode_documents(tokens, offsets, config).view(2, 4, 16, 48)
    holes = fde.encode_documents(tokens, offsets, bare).view(2, 4, 16, 48)
    empty = ~holes[0].any(2)
    assert empty.sum() >= 4 * 13
    assert torch.equal(filled[0][~empty], holes[0][~empty])
    codes = simhash.patterns(tokens, torch.from_numpy(randomness.planes(config)).float())
    for repetition, cell in empty.nonzero().tolist():
        code = cell ^ cell >> 1
        distances = [(int(own) ^ code).bit_count() for own in codes[repetition]]
        nearest = tokens[distances.index(min(distances))]
        assert torch.equal(filled[0, repetition, cell], nearest)
    assert not filled[1].any()
    query = fde.encode_queries(tokens, offsets, config)
    assert torch.equal(query, fde.encode_queries(tokens, offsets, bare))


def test_filling_helps_short_documents() -> None:
    """Measured with 6 tokens in 64 cells: the best document first for .54 of queries, not .41."""
    queries, documents = topic_documents(300, document_tokens=6)
    best = best_documents(queries, documents)

    def recall(fill_empty: bool) -> float:
        config = fde.Config(token_dim=queries.shape[2], k_sim=6, fill_empty=fill_empty)
        scores = fde.encode_queries(*packed(queries), config) @ (
            fde.encode_documents(*packed(documents), config).T
        )
        return float((scores.argmax(1) == best).float().mean())

    assert recall(True) > recall(False) + 0.06


@pytest.mark.parametrize("encode", [fde.encode_queries, fde.encode_documents])
@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 90), max_size=12), st.randoms(use_true_random=False))
def test_each_row_is_of_its_document_alone(encode: Encode, lengths: list[int], random) -> None:  # type: ignore[no-untyped-def]
    """Alone, in any batch and in any order."""
    config = fde.Config(token_dim=20, repetitions=3, k_sim=3, projection_dim=4, final_dim=50)
    tokens, offsets = ragged(tuple(lengths), 20)
    found = encode(tokens, offsets, config)
    assert found.shape == (len(lengths), 50)
    order = list(range(len(lengths)))
    random.shuffle(order)
    parts = [tokens[offsets[place] : offsets[place + 1]] for place in order]
    for place, part in zip(order, parts):
        close(encode(part, torch.tensor([0, len(part)]), config)[0], found[place])
    if parts:
        shuffled = torch.tensor([0, *np.cumsum([len(part) for part in parts])])
        close(encode(torch.cat(parts), shuffled, config), found[order])


def test_chunks_do_not_show() -> None:
    """9,000 tokens are several chunks, one of them of a single long document."""
    lengths = (700,) * 5 + (0,) + (5000,) + (50,) * 10
    tokens, offsets = ragged(lengths, 16)
    config = fde.Config(token_dim=16, repetitions=3, projection_dim=4)
    found = fde.encode_documents(tokens, offsets, config)
    for place in range(len(lengths)):
        own = tokens[offsets[place] : offsets[place + 1]]
        close(fde.encode_documents(own, torch.tensor([0, len(own)]), config)[0], found[place])


def test_a_weight_is_a_repetition() -> None:
    tokens, offsets = ragged((9, 4), 48)
    sizes = torch.tensor([3, 1, 0, 2, 1, 1, 1, 4, 1, 0, 0, 2, 1])
    ends = torch.nn.functional.pad(sizes.cumsum(0), (1, 0))[offsets]
    repeated = tokens.repeat_interleave(sizes, dim=0)
    config = fde.Config(token_dim=48, repetitions=3)
    for encode in (fde.encode_queries, fde.encode_documents):
        found = encode(tokens, offsets, config, weights=sizes.double())
        close(found, encode(repeated, ends, config))


def test_weights_of_zero_leave_an_empty_document() -> None:
    tokens, offsets = ragged((4,), 48)
    config = fde.Config(token_dim=48)
    assert not fde.encode_documents(tokens, offsets, config, weights=torch.zeros(4)).any()


def test_strided_tokens() -> None:
    tokens, offsets = ragged((5, 8), 48)
    config = fde.Config(token_dim=24)
    found = fde.encode_documents(tokens[:, ::2], offsets, config)
    assert torch.equal(found, fde.encode_documents(tokens[:, ::2].contiguous(), offsets, config))


@pytest.mark.parametrize("weighted", [False, True])
def test_is_a_proper_operator(weighted: bool) -> None:
    tokens, offsets = ragged((5, 0, 8), 48)
    weights = torch.ones(13) if weighted else None
    config = fde.Config(token_dim=48, final_dim=90)
    numbers = [48, config.repetitions, config.k_sim, config.projection_dim, 90, True, 0]
    arguments = (tokens, offsets, weights, numbers, True)
    torch.library.opcheck(torch.ops.maxsight.fde_encode.default, arguments)


def test_compiles() -> None:
    tokens, offsets = ragged((5, 0, 8), 48)
    config = fde.Config(token_dim=48, final_dim=90)
    with torch.inference_mode():
        expected = fde.encode_queries(tokens, offsets, config) * 2
        compiled = torch.compile(
            lambda rows: fde.encode_queries(rows, offsets, config) * 2,
            fullgraph=True,
            backend="aot_eager",
        )
        close(compiled(tokens), expected)


@pytest.mark.parametrize(
    ("tokens", "offsets", "weights", "message"),
    [
        (torch.ones(3), torch.tensor([0, 3]), None, "sum L, d"),
        (torch.ones(3, 8, dtype=torch.int8), torch.tensor([0, 3]), None, "floating point"),
        (torch.ones(3, 9), torch.tensor([0, 3]), None, "8 dimensions, got 9"),
        (torch.ones(3, 8), torch.tensor([0, 3], dtype=torch.int32), None, "int64"),
        (torch.ones(3, 8), torch.empty(0, dtype=torch.int64), None, r"\(B \+ 1,\)"),
        (torch.ones(3, 8), torch.tensor([0, 2]), None, "number of tokens, 3"),
        (torch.ones(3, 8), torch.tensor([0, 3, 2, 3]), None, "rise"),
        (torch.ones(3, 8), torch.tensor([1, 3]), None, "rise from 0"),
        (torch.ones(3, 8), torch.tensor([0, 3]), torch.ones(2), r"weights must be \(3,\)"),
        (torch.ones(3, 8), torch.tensor([0, 3]), -torch.ones(3), "negative"),
    ],
)
def test_refusals(tokens: Tensor, offsets: Tensor, weights: Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fde.encode_queries(tokens, offsets, fde.Config(token_dim=8), weights=weights)


def best_documents(queries: Tensor, documents: Tensor) -> Tensor:
    """(B,) of the highest MaxSim with each query."""
    scores = [(documents @ query.T).amax(1).sum(1) for query in queries]
    return torch.stack(scores).argmax(1)


def packed(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """(B, L, d) as packed tokens and offsets."""
    return tokens.flatten(0, 1), torch.arange(len(tokens) + 1) * tokens.shape[1]
