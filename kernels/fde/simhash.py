"""On which side of each hyperplane a token lies, in exact integer arithmetic.

A product of floats is rounded, each device and batch size in its own way, and a token beside a
hyperplane would change its cell with them. So a token is first rounded to integers, by a power of
two that its largest coordinate sets, small enough for its product with a plane's integers to stay
below 2^24: there float32 is exact in every order of summation. The rounding turns a token by about
0.0006 radians (d = 128), the query's tokens and the document's alike.
"""

from __future__ import annotations

import torch
from torch import Tensor

from maxsight.kernels.fde.randomness import PLANE_LIMIT

# float16 holds every integer up to 2^11: tensor cores multiply it with a sum in float32.
_MOST_BITS = 11


def integer_bits(token_dim: int) -> int:
    """How many bits an integer token's largest coordinate has: at most 2 to that number."""
    return max(0, min(_MOST_BITS, ((1 << 24) // (PLANE_LIMIT * token_dim)).bit_length() - 1))


def integers(tokens: Tensor) -> Tensor:
    """Tokens (L, d), as integers in float32, each by a power of two of its own.

    Args:
        tokens: finite, of any floating dtype; counted as rounded to float32.
    """
    rows = tokens.to(torch.float32)
    largest = rows.abs().amax(1, keepdim=True)
    # largest is in [2^exponent, 2^(exponent + 1)). The power is made of its bits: pow and exp2 are
    # not exact everywhere. The floor keeps it finite for tokens of nearly nothing.
    exponent = ((largest.view(torch.int32) >> 23) - 127).clamp_min_(-115)
    power = ((126 + integer_bits(tokens.shape[1]) - exponent) << 23).view(torch.float32)
    return (rows * power).add_(0.5).floor_()


def patterns(tokens: Tensor, planes: Tensor) -> Tensor:
    """The sign patterns (R, L) int32 of tokens in every repetition, the first plane's bit highest.

    Args:
        tokens: (L, d) finite floating point.
        planes: (k_sim, R, d) float32.
    """
    k_sim, repetitions, dim = planes.shape
    found = torch.zeros((repetitions, len(tokens)), dtype=torch.int32, device=tokens.device)
    if k_sim and len(tokens):
        # On a GPU a float32 product may run in TF32, which holds these integers just as exactly.
        sides = planes.view(-1, dim) @ integers(tokens).T > 0
        for bits in sides.view(k_sim, repetitions, -1):
            found = found * 2 + bits
    return found


def cells_of(patterns: Tensor) -> Tensor:
    """The cell of each pattern: its place in the Gray code.

    Neighbours in number differ in one plane.
    """
    cells = patterns
    for shift in (1, 2, 4, 8, 16):
        cells = cells ^ (cells >> shift)
    return cells


def patterns_of(cells: Tensor) -> Tensor:
    """The Gray code of each cell: the pattern of the tokens in it."""
    return cells ^ (cells >> 1)
