import numpy as np
import pytest

from maxsight.errors import UsageError
from maxsight.index.array_types import Floats
from maxsight.index.late import codec, grouping


def unit_tokens(count: int, dim: int, seed: int = 0) -> Floats:
    draw = np.random.default_rng(seed)
    centres = draw.standard_normal((20, dim))
    tokens = centres[draw.integers(0, 20, count)] + 0.9 * draw.standard_normal((count, dim))
    found: Floats = (tokens / np.linalg.norm(tokens, axis=1, keepdims=True)).astype(np.float32)
    return found


@pytest.mark.parametrize(("codes", "error"), [("5bit", 0.004), ("4bit", 0.012), ("2bit", 0.12)])
def test_codes_stand_for_nearly_the_tokens(codes: str, error: float) -> None:
    tokens = unit_tokens(4_000, 64)
    book = codec.train(tokens, codes, centroids=32)
    ids, packed = book.encode(tokens)
    assert packed.shape == (4_000, 64 * codec.CODES[codes] // 8)
    away = ((book.decode(ids, packed) - tokens) ** 2).sum(1).mean()
    assert error / 4 < away < error


def test_levels_lose_less_than_those_of_equal_shares() -> None:
    tokens = unit_tokens(4_000, 64)
    book = codec.train(tokens, "4bit", centroids=32)
    ours = book.decode(*book.encode(tokens))
    # PLAID's: residuals are cut where each bucket holds as many, and stand for its mean.
    nearest = (book.centroids * np.float32(book.scale))[book.nearest(tokens)]
    residuals = tokens - nearest
    shares = np.array_split(np.sort(residuals, axis=None), 16)
    bucket = np.searchsorted([share[0] for share in shares[1:]], residuals, side="right")
    theirs = nearest + np.array([share.mean() for share in shares])[bucket]
    theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
    assert ((ours - tokens) ** 2).mean() < 0.7 * ((theirs - tokens) ** 2).mean()


def test_ids_name_the_nearest_centroid() -> None:
    tokens = unit_tokens(500, 32)
    book = codec.train(tokens, "int8", centroids=300)
    assert book.nearest(tokens).dtype == np.uint16
    centroids = book.centroids * np.float32(book.scale)
    away = ((tokens[:, None] - centroids) ** 2).sum(2)
    chosen = np.take_along_axis(away, book.nearest(tokens)[:, None].astype(int), axis=1)[:, 0]
    assert (chosen <= away.min(1) + 1e-5).all()


def test_the_seed_decides() -> None:
    tokens = unit_tokens(500, 32)
    one, same, other = (codec.train(tokens, "5bit", centroids=16, seed=seed) for seed in (1, 1, 2))
    assert (one.centroids == same.centroids).all()
    assert (one.levels == same.levels).all()
    assert (one.centroids != other.centroids).any()


def test_a_sample_smaller_than_the_centroids() -> None:
    tokens = unit_tokens(3, 16)
    book = codec.train(tokens, "5bit", centroids=256)
    assert len(book.centroids) == 3
    assert np.abs(book.decode(*book.encode(tokens)) - tokens).max() < 0.02
    nothing = codec.train(tokens[:0], "4bit")
    assert len(nothing.encode(tokens[:0])[0]) == 0


@pytest.mark.parametrize(("codes", "centroids"), [("3bit", 256), ("4bit", 0), ("4bit", 70_000)])
def test_what_cannot_be_is_refused(codes: str, centroids: int) -> None:
    with pytest.raises(UsageError, match="int8, 5bit, 4bit, 2bit and centroids 1 to 65,536"):
        codec.train(unit_tokens(10, 16), codes, centroids=centroids)


def carved(tokens: Floats, threshold: float) -> list[Floats]:
    """Ball carving as MUVERA tells it, a token at a time."""
    left, groups = list(tokens), []
    while left:
        first = left[0]
        near = [float(first @ token) >= threshold or token is first for token in left]
        groups.append(np.sum([token for token, inside in zip(left, near) if inside], axis=0))
        left = [token for token, inside in zip(left, near) if not inside]
    return groups


def test_carving_is_that_of_the_paper() -> None:
    tokens = np.concatenate([unit_tokens(90, 32), unit_tokens(5, 32, seed=1)])
    edges = np.array([0, 90, 95])
    sums, offsets = grouping.carve(tokens, edges, above=64)
    expected = carved(tokens[:90], 0.7)
    assert offsets.tolist() == [0, len(expected), len(expected) + 5]
    assert len(expected) < 90
    np.testing.assert_allclose(sums[: len(expected)], expected, atol=1e-5)
    assert (sums[len(expected) :] == tokens[90:]).all()
