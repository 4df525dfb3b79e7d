"""Token codes: the nearest of some centroids, and what a token lies beside it in 2, 4 or 5 bits.

As in PLAID, but that the levels are those of least squared error (Lloyd and Max) where PLAID cuts
residuals into equal shares, that centroids and levels are int8 numbers, so that their sum is what
an int8 product takes, and that 5 bits are offered: 4 do not keep the ten best of hard queries.

Source: Santhanam et al., "PLAID", 2022.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from maxsight.errors import UsageError
from maxsight.index.array_types import Floats
from maxsight.kernels.coded_tokens import sums_of, unit_rows

# What a store may be asked for, and its bits a number.
CODES = {"int8": 8, "5bit": 5, "4bit": 4, "2bit": 2}
# Numbers of an id's type: more centroids than 256 take two bytes a token.
MOST_CENTROIDS = 65_536
_TRAINING_TOKENS = 64  # a centroid
_KMEANS_ROUNDS = 8
_LLOYD_ROUNDS = 30
_LLOYD_NUMBERS = 1 << 19
# Residuals are looked up in steps of so much of an int8 number.
_FINE = 4
_CODED_TOKENS = 8192
# What is multiplied and compared at a time stays in the cache.
_NEAR_TOKENS = 1024
# Lengths in whole numbers: products of such vectors are below 2^24 up to 36,000 dimensions.
_WHOLE = 4_000

Ids = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class Codebook:
    """What tokens are coded by.

    Attributes:
        bits: 8, 5, 4 or 2; 8: int8 numbers stand for themselves, centroids only find candidates.
        scale: what 1 of ``centroids`` and ``levels`` is worth.
        centroids: (K, d) int8.
        levels: (2 ** bits,) int8, rising; empty where ``bits`` is 8.
    """

    bits: int
    scale: float
    centroids: npt.NDArray[np.int8]
    levels: npt.NDArray[np.int8]

    @property
    def id_type(self) -> np.dtype[np.uint8] | np.dtype[np.uint16]:
        """uint8 while it can number the centroids."""
        return np.dtype(np.uint8) if len(self.centroids) <= 256 else np.dtype(np.uint16)

    def nearest(self, tokens: Floats) -> Ids:
        """The nearest centroid of each token (n, d): (n,)."""
        found = _nearest(tokens, self.centroids * np.float32(self.scale))
        return found.astype(np.uint8) if self.id_type == np.uint8 else found.astype(np.uint16)

    def encode(self, tokens: Floats) -> tuple[Ids, npt.NDArray[np.uint8]]:
        """Ids (n,) and codes (n, d * bits / 8) of tokens (n, d)."""
        ids = self.nearest(tokens)
        codes = np.empty((len(tokens), tokens.shape[1] * self.bits // 8), np.uint8)
        table, low = self._table()
        for start in range(0, len(tokens), _CODED_TOKENS):
            part = slice(start, start + _CODED_TOKENS)
            residual = tokens[part] * np.float32(_FINE / self.scale)
            residual -= self.centroids[ids[part]] * np.float32(_FINE)
            positions = np.rint(residual).astype(np.int32) - low
            codes[part] = _packed(table.take(positions, mode="clip"), self.bits)
        return ids, codes

    def decode(self, ids: Ids, codes: npt.NDArray[np.uint8]) -> Floats:
        """The unit vectors (n, d) that codes stand for."""
        return unit_rows(sums_of(self.centroids[ids], self.levels, codes, self.bits))

    def _table(self) -> tuple[npt.NDArray[np.uint8], int]:
        """The level nearest to each residual in steps, from the lowest level's on."""
        low = int(self.levels[0]) * _FINE
        steps = np.arange(low, int(self.levels[-1]) * _FINE + 1) / _FINE
        cuts = (self.levels[1:].astype(np.float64) + self.levels[:-1]) / 2
        return np.searchsorted(cuts, steps).astype(np.uint8), low


def train(sample: Floats, codes: str, *, centroids: int = 256, seed: int = 0) -> Codebook:
    """Learn centroids and levels from unit tokens (n, d); d must be a multiple of 8.

    Args:
        codes: of ``CODES``.
        centroids: at most so many; less where the sample is small.

    Raises:
        UsageError: other codes, or a number of centroids that an id cannot hold.
    """
    if codes not in CODES or not 1 <= centroids <= MOST_CENTROIDS:
        raise UsageError(
            f"codes must be one of {', '.join(CODES)} and centroids 1 to {MOST_CENTROIDS:,}, got "
            f"{codes!r} and {centroids}"
        )
    draw = np.random.default_rng(seed)
    bits = CODES[codes]
    if not len(sample):
        none = np.zeros((1, sample.shape[1]), np.int8)
        return Codebook(bits, 1 / 127, none, np.arange(2**bits if bits < 8 else 0, dtype=np.int8))
    most = draw.permutation(len(sample))[: _TRAINING_TOKENS * centroids]
    centres = _kmeans(sample[np.sort(most)], centroids, draw)
    if bits == 8:
        scale = max(float(np.abs(centres).max()), 1e-6) / 127
        numbers = np.rint(centres / scale).astype(np.int8)
        return Codebook(bits, scale, numbers, np.empty(0, np.int8))
    some = sample[np.sort(draw.permutation(len(sample))[: _LLOYD_NUMBERS // sample.shape[1] + 1])]
    levels = _lloyd((some - centres[_nearest(some, centres)]).ravel(), 2**bits)
    scale = max(float(np.abs(centres).max() + np.abs(levels).max()), 1e-6) / 127
    numbers = np.rint(centres / scale).astype(np.int8)
    return Codebook(bits, scale, numbers, np.rint(levels / scale).astype(np.int8))


def _kmeans(tokens: Floats, count: int, draw: np.random.Generator) -> Floats:
    """At most ``count`` centres of tokens (n, d)."""
    count = min(count, len(tokens))
    centres = tokens[np.sort(draw.choice(len(tokens), count, replace=False))].astype(np.float32)
    for _ in range(_KMEANS_ROUNDS):
        nearest = _nearest(tokens, centres)
        order = np.argsort(nearest, kind="stable")
        sizes = np.bincount(nearest, minlength=count)
        held = np.flatnonzero(sizes)
        starts = (np.cumsum(sizes) - sizes)[held]
        centres[held] = np.add.reduceat(tokens[order], starts) / sizes[held, None]
        lost = np.flatnonzero(sizes == 0)
        centres[lost] = tokens[draw.integers(0, len(tokens), len(lost))]
    return centres


def _nearest(tokens: Floats, centres: Floats) -> npt.NDArray[np.int64]:
    """The nearest of some centres (K, d) to each token (n, d): (n,).

    Both are rounded to whole numbers, whose products float32 adds without error in any order:
    neither the number of threads nor the processor changes what an index is made of.
    """
    found = np.empty(len(tokens), np.int64)
    squares = (centres * centres).sum(1)
    longest = _at_most(squares)
    whole = np.ascontiguousarray(np.rint(centres * (_WHOLE / longest)).T)
    half = squares * (_WHOLE * _WHOLE / longest / 2)
    for start in range(0, len(tokens), _NEAR_TOKENS):
        rows = tokens[start : start + _NEAR_TOKENS]
        length = _at_most(np.einsum("ij,ij->i", rows, rows))
        numbers = rows * (_WHOLE / length)
        products = np.rint(numbers, out=numbers) @ whole
        products -= half / length
        found[start : start + _NEAR_TOKENS] = products.argmax(1)
    return found


def _at_most(squares: Floats) -> np.float32:
    """A bound on lengths, of their squares: of unit vectors always the same."""
    longest = float(squares.max(initial=0)) ** 0.5
    return np.float32(1.05 if longest <= 1.05 else 2.0 ** np.ceil(np.log2(longest)))


def _lloyd(numbers: Floats, count: int) -> npt.NDArray[np.float64]:
    """``count`` levels of least squared error, rising; they start as the means of equal shares."""
    numbers = np.sort(numbers)
    sums = np.concatenate([[0], np.cumsum(numbers, dtype=np.float64)])
    edges = np.linspace(0, len(numbers), count + 1).astype(np.int64)
    levels = np.zeros(count)
    for _ in range(_LLOYD_ROUNDS):
        sizes = np.diff(edges)
        means = np.diff(sums[edges]) / np.maximum(sizes, 1)
        levels = np.sort(np.where(sizes > 0, means, levels))
        cuts = np.searchsorted(numbers, (levels[1:] + levels[:-1]) / 2)
        edges = np.concatenate([[0], cuts, [len(numbers)]])
    return levels


def _packed(codes: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.uint8]:
    """Codes (n, d) in (n, d * bits / 8) bytes."""
    if bits == 2:
        four = codes[:, 0::4] | codes[:, 1::4] << 2 | codes[:, 2::4] << 4 | codes[:, 3::4] << 6
        return four.astype(np.uint8)
    lower = codes & 15
    pairs = (lower[:, 0::2] | lower[:, 1::2] << 4).astype(np.uint8)
    if bits == 4:
        return pairs
    return np.concatenate([pairs, np.packbits(codes >> 4, axis=1, bitorder="little")], axis=1)
