"""The int8 copy of documents that finds the few that a top-k must score exactly.

A screen's score is the MaxSim of rounded tokens. Components are rounded up or down at random, up
with the probability that makes the mean right, so that an error has mean 0, a width of one step,
and nothing to do with other errors. Take the document tokens a(i) that give the true score S: the
screen's maxima are at least what these score when rounded, and what rounding took from them is a
sum of such errors. By Hoeffding's lemma (1963), for any l chosen beforehand,

    S <= sum over i of max over j of ( <q'_i, d'_j> + l / 8 * g * s_i * t_j^2 )
         + l / 8 * length^2 * sum over i of s_i^2 + log(1 / p) / l

but for a probability p. s_i and t_j are the steps of a query's and of a document's token, length is
the norm of the document's longest rounded token, and g is the largest eigenvalue of the Gram matrix
of the q_i / sqrt(s_i), or more: query tokens that take the same document token share its error, and
the square of the norm of their sum is at most g times the sum of their s_i. The part with t_j is
inside the maximum, so that one long token does not widen the bound of all; divided by the steps, as
int8 numbers are multiplied, it is the same for every query token, which costs the product nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from maxsight.kernels import native
from maxsight.kernels.chunks import CACHE_BYTES, chunks
from maxsight.kernels.int8 import steps
from maxsight.kernels.maxsim.checks import check_offsets, side_of
from maxsight.kernels.maxsim.codes import Documents, decode, inverse_norm
from maxsight.kernels.maxsim.values import Int8Tokens

# log(1 / p): a document is passed over wrongly less than once in 10^12. Only one that belongs to an
# answer can be, so an answer of ten is wrong less than once in 10^11 searches, of however many.
CERTAINTY = 27.7

# Two streams: a query that equals a document must not share its rounding.
_DOCUMENT_SEED, QUERY_SEED = 20, 21


@dataclass(frozen=True)
class Int8Screen:
    """An int8 copy of documents, made once for documents that are searched again and again.

    d + 8 bytes a token; of ``Int8Tokens`` 8, as it shares their values. Document weights and
    normalisation are in it.

    Attributes:
        values: (T, d) int8; ``values * scale`` is a token, weighed and normalised, rounded.
        scale: (T,) float32.
        step: (B,) float32, the largest rounding step in each document; 0 where nothing is rounded.
        length: (B,) float32, the norm of each document's longest rounded token.
        sums: (T,) int32, the sum of each token's values.
    """

    values: Tensor
    scale: Tensor
    step: Tensor
    length: Tensor
    sums: Tensor

    @staticmethod
    def of(
        documents: Documents,
        document_offsets: Tensor | None = None,
        *,
        document_weight: Tensor | None = None,
        normalize: bool = False,
    ) -> Int8Screen:
        """The screen of documents, with the arguments that :func:`topk` will be given.

        Raises:
            ValueError: shapes, dtypes or offsets that do not fit.
        """
        side = side_of(documents, document_offsets, document_weight, "document")
        count, d, offsets, device = side.rows, side.dim, side.offsets, side.offsets.device
        check_offsets(offsets, count, "document")
        coded = documents if isinstance(documents, Int8Tokens) else None
        values = (
            torch.empty((count, d), dtype=torch.int8, device=device)
            if coded is None
            else coded.values
        )
        scale = torch.empty(count, dtype=torch.float32, device=device)
        norm = torch.empty_like(scale)
        sums = torch.empty(count, dtype=torch.int32, device=device)
        generator = torch.Generator(device).manual_seed(_DOCUMENT_SEED)
        for rows in chunks(count, d, limit=CACHE_BYTES):
            tokens = decode(documents, rows, torch.float32)
            factor = inverse_norm(tokens) if normalize else torch.ones_like(scale[rows])
            if document_weight is not None:
                factor = factor * document_weight[rows].to(torch.float32)
            if coded is None:
                dithered = _dithered(tokens, factor, generator)
                values[rows], scale[rows], norm[rows] = dithered
            else:
                scale[rows] = coded.scale[rows] * factor
                norm[rows] = values[rows].to(torch.float32).norm(dim=1) * scale[rows].abs()
            sums[rows] = values[rows].sum(1, dtype=torch.int32)
        length = _largest(norm, offsets)
        step = _largest(scale, offsets) if coded is None else torch.zeros_like(length)
        return Int8Screen(values, scale, step, length, sums)


def coarse(screen: Int8Screen, offsets: Tensor) -> native.Coarse:
    """A screen as native code takes it."""
    return native.Coarse(
        screen.values, screen.scale, screen.sums, offsets, screen.step, screen.length
    )


def allowance(given: native.Prepared, step: Tensor, length: Tensor) -> Tensor:
    """By how much a true score may exceed the screen's (B, D), for documents of these steps and
    lengths (D,).
    """
    longest = length + step * given.values.shape[1] ** 0.5
    return (
        torch.outer(given.spread, length.square())
        + torch.outer(given.rounding, longest)
        + given.margin[:, None]
    )


def _dithered(
    tokens: Tensor, factor: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens (T, d) times factors (T,) as int8, right in the mean, their scale (T,) and the norms
    (T,) of the rounded.
    """
    if tokens.device.type == "cpu" and native.available() is not None:
        seed = int(torch.randint(2**62, (), generator=generator))
        return native.dither(tokens, seed, scale=factor)
    tokens = tokens * factor[:, None]
    step = steps(tokens)
    level = tokens / step.where(step > 0, 1)[:, None]
    noise = torch.rand(level.shape, generator=generator, device=level.device)
    values = level.add_(noise).floor_().clamp_(-127, 127)
    return values.to(torch.int8), step, values.norm(dim=1) * step


def _largest(values: Tensor, offsets: Tensor) -> Tensor:
    """The largest absolute value in each segment, 0 in an empty one."""
    if len(values) == 0:
        return values.new_zeros(len(offsets) - 1)
    return torch.segment_reduce(values.abs(), "max", offsets=offsets, axis=0, initial=0)
