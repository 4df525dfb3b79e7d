"""The random hyperplanes and sketches of an encoding.

An index outlives the machine it was built on, so they are the same on every device and with every
release of torch and numpy: the bits are Philox's raw ones, which numpy keeps stable (it does not
promise that of ``Generator``'s numbers), and all that is made of them is integer arithmetic. Each
stream has a key of its own: (seed, kind of stream, repetition).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from maxsight.kernels.fde.values import Config

_PLANES, _INNER, _FINAL = range(3)
PLANE_LIMIT = 31


@dataclass(frozen=True)
class Sketch:
    """A count-sketch: every input coordinate goes to one output coordinate, with a sign.

    Attributes:
        target: (n,) int64, the output coordinate of each input coordinate.
        sign: (n,) int8, 1 or -1.
        width: m, of the output.
    """

    target: NDArray[np.int64]
    sign: NDArray[np.int8]
    width: int

    def matrix(self) -> NDArray[np.float32]:
        """(n, m): what tokens (L, n) are multiplied with."""
        dense = np.zeros((len(self.target), self.width), dtype=np.float32)
        dense[np.arange(len(self.target)), self.target] = self.sign
        return dense

    def gathered(self) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
        """(source, sign), (depth, m) each: output j is the sum of ``sign[i, j] * x[source[i, j]]``.

        An output coordinate of fewer inputs than the fullest one ends in sign 0.
        """
        order = np.argsort(self.target, kind="stable")
        counts = np.bincount(self.target, minlength=self.width)
        rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        shape = (int(counts.max()), self.width)
        source, sign = np.zeros(shape, dtype=np.int32), np.zeros(shape, dtype=np.int8)
        source[rank, self.target[order]] = order
        sign[rank, self.target[order]] = self.sign[order]
        return source, sign


@lru_cache(maxsize=8)
def planes(config: Config) -> NDArray[np.int8]:
    """(k_sim, repetitions, token_dim): normals of the hyperplanes, odd integers in [-31, 31].

    Each is twice the number of ones in 31 random bits, less 31: binomial, so nearly Gaussian (its
    kurtosis is 2.94, a Gaussian's 3, and a token's product sums token_dim of them), and small
    enough for every product with simhash.py's integer tokens to be exact. Odd, so never zero.
    """
    count = config.k_sim * config.token_dim
    found = np.empty((config.k_sim, config.repetitions, config.token_dim), dtype=np.int8)
    for repetition in range(config.repetitions):
        words = _bits(config, _PLANES, repetition, -(-count // 2))
        ones = np.bitwise_count(words.view("<u4")[:count] >> np.uint32(1)).astype(np.int8)
        found[:, repetition] = (2 * ones - PLANE_LIMIT).reshape(config.k_sim, config.token_dim)
    return found


@lru_cache(maxsize=8)
def inner_sketches(config: Config) -> list[Sketch] | None:
    """Of each repetition; None for the identity."""
    if config.projection_dim is None:
        return None
    return [
        _sketch(_bits(config, _INNER, repetition, config.token_dim), config.projection_dim)
        for repetition in range(config.repetitions)
    ]


@lru_cache(maxsize=8)
def final_sketch(config: Config) -> Sketch | None:
    """Of the whole encoding; None where there is none."""
    if config.final_dim is None:
        return None
    return _sketch(_bits(config, _FINAL, 0, config.inner_dim), config.final_dim)


def _sketch(words: NDArray[np.uint64], width: int) -> Sketch:
    target = ((words >> np.uint64(1)) % np.uint64(width)).astype(np.int64)
    sign = (1 - 2 * (words & np.uint64(1)).astype(np.int8)).astype(np.int8)
    return Sketch(target, sign, width)


def _bits(config: Config, stream: int, repetition: int, count: int) -> NDArray[np.uint64]:
    key = np.array([config.seed, stream << 32 | repetition], dtype=np.uint64)
    return np.random.Philox(key=key).random_raw(count).astype("<u8")
