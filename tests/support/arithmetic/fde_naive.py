"""Fixed-dimensional encodings in loops, float64: what the kernels are compared with.

It shares their random numbers and nothing else.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from maxsight.kernels.fde import Config, randomness

Array = NDArray[np.float64]


def patterns(tokens: Array, config: Config) -> list[list[tuple[bool, ...]]]:
    """Of each repetition and token, the side of each plane."""
    planes = randomness.planes(config).astype(np.int64)
    bits = 11
    while 31 * config.token_dim * 2**bits > 2**24:
        bits -= 1
    found: list[list[tuple[bool, ...]]] = [[] for _ in range(config.repetitions)]
    for token in tokens.astype(np.float32).astype(np.float64):
        exponent = np.frexp(np.abs(token).max())[1]
        whole = np.floor(np.ldexp(token, bits - exponent) + 0.5).astype(np.int64)
        for repetition, of_all in enumerate(found):
            sides = (int(plane @ whole) > 0 for plane in planes[:, repetition])
            of_all.append(tuple(sides))
    return found


def encode(
    tokens: Array, offsets: list[int], weights: Array | None, config: Config, *, documents: bool
) -> Array:
    """(B, config.dim)."""
    sketches, final = randomness.inner_sketches(config), randomness.final_sketch(config)
    sides = patterns(tokens, config)
    found = np.zeros((len(offsets) - 1, config.dim))
    for position in range(len(found)):
        inner = np.zeros((config.repetitions, config.cells, config.cell_dim))
        own = [
            token
            for token in range(offsets[position], offsets[position + 1])
            if weights is None or weights[token] > 0
        ]
        for repetition in range(config.repetitions if own else 0):
            projected = {token: tokens[token] for token in own}
            if sketches is not None:
                projected = {
                    token: _sketched(row, sketches[repetition]) for token, row in projected.items()
                }
            for code in np.ndindex((2,) * config.k_sim):
                cell = 0
                for bit in code:
                    cell = 2 * cell + (bit ^ cell & 1)
                distances = [
                    sum(bool(a) != b for a, b in zip(code, sides[repetition][token]))
                    for token in own
                ]
                members = [token for token, far in zip(own, distances) if far == 0]
                sizes = [1.0 if weights is None else float(weights[token]) for token in members]
                value = np.zeros(config.cell_dim)
                for token, size in zip(members, sizes):
                    value = value + size * projected[token]
                if documents and members:
                    value = value / sum(sizes)
                elif documents and config.fill_empty:
                    value = projected[own[distances.index(min(distances))]]
                inner[repetition, cell] = value
        flat = inner.reshape(-1)
        found[position] = flat if final is None else _sketched(flat, final)
    return found


def _sketched(row: Array, sketch: randomness.Sketch) -> Array:
    found = np.zeros(sketch.width)
    for value, target, sign in zip(row, sketch.target, sketch.sign):
        found[target] += sign * value
    return found


def groups(tokens: Array, offsets: list[int], threshold: float) -> list[list[int]]:
    """Ball carving: the tokens of each group, in the order of the groups' first tokens."""
    found: list[list[int]] = []
    for start, end in pairwise(offsets):
        left = list(range(start, end))
        while left:
            leader = left[0]
            group = [
                token
                for token in left
                if token == leader or tokens[token] @ tokens[leader] >= threshold
            ]
            found.append(group)
            left = [token for token in left if token not in group]
    return found
