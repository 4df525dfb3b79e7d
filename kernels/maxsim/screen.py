"""The int8 copy of documents that finds the few that a top-k must score exactly.

A screen's score S' is the MaxSim of rounded tokens. Components are rounded up or down at random, up
with the probability that makes the mean right, so that an error has mean 0, a width of one step,
and nothing to do with other errors. Take the document tokens that give the true score S: S' is at
least what they score when rounded, so S - S' is at most a sum of such errors, and exceeds
``certainty * sqrt(variance)`` with probability exp(-certainty^2 / 2) at most (Hoeffding, 1963) for

    variance = step^2 / 4 * sum over i, j of max(0, <q_i, q_j>) + length^2 / 4 * sum of s_i^2

where step and length are the document's largest, s_i the step of query token i, and the first sum
bounds what several query tokens get out of one document token. Summing worst cases over the query
tokens instead (Cauchy-Schwarz) gives a bound several times as wide at 32 tokens.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from maxsight.kernels import native
from maxsight.kernels.chunks import CACHE_BYTES, chunks
from maxsight.kernels.maxsim.codes import (
    Documents,
    Int8Tokens,
    decode,
    dimensions,
    int8_step,
    inverse_norm,
    storage,
)

# exp(-9^2 / 2): a query and a document are judged wrongly once in 10^17.
CERTAINTY = 9.0

# Two streams: a query that equals a document must not share its rounding.
_DOCUMENT_SEED, _QUERY_SEED = 20, 21


@dataclass(frozen=True)
class Int8Screen:
    """An int8 copy of documents, made once for documents that are searched again and again.

    d + 4 bytes a token; of ``Int8Tokens`` 4, as it shares their values. Document weights and
    normalisation are in it.

    Attributes:
        values: (T, d) int8; ``values * scale`` is a token, weighed and normalised, rounded.
        scale: (T,) float32.
        step: (B,) float32, the largest rounding step in each document; 0 where nothing is rounded.
        length: (B,) float32, the norm of each document's longest rounded token.
    """

    values: Tensor
    scale: Tensor
    step: Tensor
    length: Tensor

    @staticmethod
    def of(
        documents: Documents,
        document_offsets: Tensor,
        *,
        document_weight: Tensor | None = None,
        normalize: bool = False,
    ) -> Int8Screen:
        """The screen of documents, with the arguments that :func:`topk` will be given."""
        count, d = len(storage(documents)), dimensions(documents)
        coded = documents if isinstance(documents, Int8Tokens) else None
        device = storage(documents).device
        values = (
            torch.empty((count, d), dtype=torch.int8, device=device)
            if coded is None
            else coded.values
        )
        scale = torch.empty(count, dtype=torch.float32, device=device)
        norm = torch.empty_like(scale)
        generator = torch.Generator(device).manual_seed(_DOCUMENT_SEED)
        for rows in chunks(count, d, limit=CACHE_BYTES):
            tokens = decode(documents, rows, torch.float32)
            factor = inverse_norm(tokens) if normalize else torch.ones_like(scale[rows])
            if document_weight is not None:
                factor = factor * document_weight[rows].to(torch.float32)
            if coded is None:
                values[rows], scale[rows] = _dithered(tokens * factor[:, None], generator)
            else:
                scale[rows] = coded.scale[rows] * factor
            norm[rows] = values[rows].to(torch.float32).norm(dim=1) * scale[rows].abs()
        length = _largest(norm, document_offsets)
        step = _largest(scale, document_offsets) if coded is None else torch.zeros_like(length)
        return Int8Screen(values, scale, step, length)


@dataclass(frozen=True)
class ScreenQueries:
    """Queries rounded for a screen, and what bounds the error that this makes.

    Attributes:
        values: (Q, d) int8, weights and normalisation inside.
        scale: (Q,) float32.
        overlap: (B,) float32, the sum over pairs of a query's tokens of max(0, inner product).
        square_steps: (B,) float32, the sum of the squares of its tokens' steps.
        length: (B,) float32, the sum of its tokens' norms.
        rounding: (B,) float32, float32 rounding as a part of length times length.
    """

    values: Tensor
    scale: Tensor
    overlap: Tensor
    square_steps: Tensor
    length: Tensor
    rounding: Tensor

    @staticmethod
    def of(tokens: Tensor, offsets: Tensor) -> ScreenQueries:
        """Query tokens (Q, d) float32, times their weights, which must not be negative."""
        generator = torch.Generator(tokens.device).manual_seed(_QUERY_SEED)
        values, scale = _dithered(tokens, generator)
        groups = [tokens[start:end] for start, end in itertools.pairwise(offsets)]
        overlap = [_products(group).clamp_min_(0).sum() for group in groups]
        sums = torch.stack([scale.square(), tokens.norm(dim=1)], 1)
        square_steps, length = _sums(sums, offsets).T
        return ScreenQueries(
            values,
            scale,
            torch.stack(overlap) if overlap else length,
            square_steps,
            length,
            (tokens.shape[1] + offsets.diff() + 8) * 2.0**-24,
        )

    def error(self, step: Tensor, length: Tensor) -> Tensor:
        """By how much a true score may exceed the screen's, (B, D), for documents of these steps
        and lengths (D,).
        """
        variance = torch.outer(self.overlap, step.square()) + torch.outer(
            self.square_steps, length.square()
        )
        longest = length + step * self.values.shape[1] ** 0.5
        rounding = torch.outer(self.length * self.rounding, longest)
        return rounding.addcmul_(variance.sqrt_(), rounding.new_tensor(CERTAINTY / 2))


def _dithered(tokens: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Tokens (T, d) float32 as int8, right in the mean, and their scale (T,)."""
    step = int8_step(tokens)
    level = tokens / step.where(step > 0, 1)[:, None]
    noise = torch.rand(level.shape, generator=generator, device=level.device)
    values = level.add_(noise).floor_().clamp_(-127, 127)
    return values.to(torch.int8), step


def _products(tokens: Tensor) -> Tensor:
    """Inner products of every two tokens (L, L)."""
    if tokens.device.type != "cpu" or native.available() is None or len(tokens) == 0:
        return tokens @ tokens.T
    # However small, a product in torch wakes all its threads; their waiting may cost a search.
    each = torch.arange(len(tokens) + 1)
    return native.segment_max(tokens, each, tokens)


def _largest(values: Tensor, offsets: Tensor) -> Tensor:
    """The largest absolute value in each segment, 0 in an empty one."""
    if len(values) == 0:
        return values.new_zeros(len(offsets) - 1)
    return torch.segment_reduce(values.abs(), "max", offsets=offsets, axis=0, initial=0)


def _sums(values: Tensor, offsets: Tensor) -> Tensor:
    if len(values) == 0:
        return values.new_zeros((len(offsets) - 1, values.shape[1]))
    return torch.segment_reduce(values, "sum", offsets=offsets, axis=0, initial=0)
