"""How tokens are stored in fewer bytes: int8 with a scale, and PLAID's residual codes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from maxsight.kernels.chunks import CACHE_BYTES, chunks

# Products of vectors of whole numbers and of this length are below 2^24.
_LENGTH = 4_000


@dataclass(frozen=True)
class Int8Tokens:
    """Tokens as int8, each with a scale: ``token = values * scale``.

    Given for both queries and documents, their product is exact in integers, and as fast as the
    machine's int8 product. d + 4 bytes a token.

    Attributes:
        values: (T, d) int8.
        scale: (T,) float32.
    """

    values: Tensor
    scale: Tensor

    @staticmethod
    def of(tokens: Tensor) -> Int8Tokens:
        """Tokens (T, d) rounded to 255 levels, the largest component of each token at +-127.

        Example:
            >>> Int8Tokens.of(torch.tensor([[0.5, -1.27]])).values.tolist()
            [[50, -127]]
        """
        values = tokens.new_empty(tokens.shape, dtype=torch.int8)
        scale = tokens.new_empty(len(tokens), dtype=torch.float32)
        for rows in chunks(len(tokens), tokens.shape[1], limit=CACHE_BYTES):
            part = tokens[rows].to(torch.float32)
            step = int8_step(part)
            values[rows] = (part / step.where(step > 0, 1)[:, None]).round()
            scale[rows] = step
        return Int8Tokens(values, scale)


@dataclass(frozen=True)
class ResidualCodes:
    """Tokens as the nearest centroid and the residual in 2 or 4 bits a dimension.

    ``token = centroids[centroid_ids] + bucket_weights[code]``, not normalised, so that a score is
    a table of centroid scores plus the sum over d of ``query[d] * bucket_weights[code[d]]``
    (WARP; PLAID normalises: ``normalize=True``). 4 + d * bits / 8 bytes a token.

    Attributes:
        centroid_ids: (T,) int32.
        codes: (T, d * bits / 8) uint8, ``8 / bits`` codes a byte, the first in the lowest bits.
        centroids: (K, d) float32.
        bucket_weights: (2 ** bits,) float32.

    Source: Santhanam et al., "PLAID", 2022; Scheerer et al., "WARP", 2025.
    """

    centroid_ids: Tensor
    codes: Tensor
    centroids: Tensor
    bucket_weights: Tensor

    @property
    def bits(self) -> int:
        """Bits a dimension, 2 or 4."""
        return len(self.bucket_weights).bit_length() - 1

    @staticmethod
    def of(tokens: Tensor, centroids: Tensor, *, bits: int = 4) -> ResidualCodes:
        """Tokens (T, d) coded by their nearest centroid of ``centroids`` (K, d).

        Buckets are cut at quantiles of the residuals, so that each holds the same number, and
        weigh the mean of theirs. The same tokens give the same codes with any number of threads.

        Args:
            bits: 2 or 4; d must be a multiple of ``8 / bits``.

        Raises:
            ValueError: other bits, another d, no centroids or no tokens.
        """
        if bits not in (2, 4) or tokens.shape[1] % (8 // bits):
            raise ValueError(
                f"bits must be 2 or 4 and d a multiple of 8 / bits, got {bits} bits and d = "
                f"{tokens.shape[1]}"
            )
        if len(tokens) == 0 or centroids.ndim != 2 or centroids.shape[1:] != tokens.shape[1:]:
            raise ValueError(
                f"at least one token (T, d) and centroids (K, d) of the same d are needed, got "
                f"{tuple(tokens.shape)} and {tuple(centroids.shape)}"
            )
        centroids = centroids.to(torch.float32)
        nearest = torch.cat(
            [
                _nearest(tokens[rows].to(torch.float32), centroids)
                for rows in chunks(len(tokens), len(centroids))
            ]
        )
        cuts, weights = _buckets(tokens, centroids, nearest, bits)
        per_byte = 8 // bits
        codes = tokens.new_empty((len(tokens), tokens.shape[1] // per_byte), dtype=torch.uint8)
        shifts = torch.arange(per_byte, device=tokens.device) * bits
        for rows in chunks(len(tokens), tokens.shape[1], limit=CACHE_BYTES):
            residual = tokens[rows].to(torch.float32) - centroids[nearest[rows]]
            code = torch.bucketize(residual, cuts).view(len(residual), -1, per_byte)
            codes[rows] = (code << shifts).sum(-1)
        return ResidualCodes(nearest.to(torch.int32), codes, centroids, weights)


Tokens = Tensor | Int8Tokens
Documents = Tensor | Int8Tokens | ResidualCodes


def storage(tokens: Documents) -> Tensor:
    """The tensor that has a row a token."""
    if isinstance(tokens, Tensor):
        return tokens
    return tokens.values if isinstance(tokens, Int8Tokens) else tokens.centroid_ids


def dimensions(tokens: Documents) -> int:
    """d."""
    return (tokens.centroids if isinstance(tokens, ResidualCodes) else storage(tokens)).shape[1]


def sum_dtype(queries: Tokens, documents: Documents) -> torch.dtype:
    """In which sums are made and scores returned: float64 if either side is, else float32."""
    given = {side.dtype for side in (queries, documents) if isinstance(side, Tensor)}
    return torch.float64 if torch.float64 in given else torch.float32


def decode(tokens: Documents, rows: Tensor | slice, dtype: torch.dtype) -> Tensor:
    """Some tokens as numbers.

    Args:
        rows: which, as indices or as a slice.
        dtype: of the result.
    """
    if isinstance(tokens, Tensor):
        return tokens[rows].to(dtype)
    if isinstance(tokens, Int8Tokens):
        return tokens.values[rows].to(dtype) * tokens.scale[rows].to(dtype)[:, None]
    # All the weights of a byte at once: one look-up a byte, not one a dimension.
    byte = torch.arange(256, device=tokens.codes.device)[:, None]
    shifts = torch.arange(0, 8, tokens.bits, device=byte.device)
    table = tokens.bucket_weights.to(dtype)[(byte >> shifts) & (2**tokens.bits - 1)]
    residual: Tensor = table[tokens.codes[rows].to(torch.int32)].flatten(1)
    centroid: Tensor = tokens.centroids.to(dtype)[tokens.centroid_ids[rows]]
    return residual + centroid


def inverse_norm(tokens: Tensor) -> Tensor:
    """1 / length of each row (T,), as ``torch.nn.functional.normalize`` divides."""
    norm: Tensor = torch.linalg.vector_norm(tokens, dim=1)
    return norm.clamp_min(1e-12).reciprocal()


def int8_step(tokens: Tensor) -> Tensor:
    """The int8 scale (T,) of float32 tokens (T, d)."""
    if tokens.shape[1] == 0:
        return tokens.new_zeros(len(tokens))
    return tokens.abs().amax(1) / 127


def _nearest(tokens: Tensor, centroids: Tensor) -> Tensor:
    """The nearest of centroids (K, d) to each token (T, d), float32: (T,) int64.

    Both are rounded to whole numbers, whose products float32 adds without error in any order.
    """
    rows, of_rows = _whole(tokens)
    columns, of_columns = _whole(centroids)
    products = (rows @ columns.T).div_(of_columns)
    products -= of_rows[:, None] * (centroids.square().sum(1) / 2)
    return products.argmax(1)


def _whole(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows times a factor each (n,), rounded, no longer than ``_LENGTH`` then."""
    norms = torch.linalg.vector_norm(rows, dim=1)
    # By powers of two, so that the last bit of a norm does not matter, and by none near 1.
    power = torch.frexp(norms / 1.5).exponent
    factor = torch.ldexp(torch.full_like(norms, _LENGTH / 1.5), -power)
    return (rows * factor[:, None]).round(), factor


def _buckets(
    tokens: Tensor, centroids: Tensor, nearest: Tensor, bits: int
) -> tuple[Tensor, Tensor]:
    """Where the residuals are cut, and the mean of each bucket, from at most a million of them."""
    sample = slice(None, None, -(-tokens.numel() // 2**20))
    residuals = (tokens[sample].to(torch.float32) - centroids[nearest[sample]]).flatten().sort()[0]
    # NumPy adds in one order; torch's depends on how many threads share the work.
    values = residuals.cpu().numpy()
    buckets = np.array_split(values, 2**bits)
    # A bucket without a residual (fewer residuals than buckets) takes the value it lies at.
    weights = [part.mean(dtype=np.float64) if len(part) else values[-1] for part in buckets]
    cuts = [part[0] if len(part) else values[-1] for part in buckets[1:]]
    learned = np.array([[*cuts, 0], weights], np.float32)
    first, second = torch.from_numpy(learned).to(tokens.device)
    return first[:-1].contiguous(), second
