"""The one format of stored tokens: a centroid and a few bits a number, or int8. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from maxsight.kernels.array_types import FloatArray, Int8Array, IntArray


@dataclass(frozen=True, eq=False)
class CodedTokens:
    """Tokens of N documents, each a centroid and what it lies beside it.

    Where ``bits`` is 8 a token is ``scale * data``, else ``clip(centroids[ids] + levels[codes],
    -127, 127)``; without a scale, divided by its norm. Arrays are C-contiguous; they may be
    memory-mapped. Ids and offsets are looked at once, here: compiled code follows them anywhere.

    Attributes:
        ids: (T,) uint8 or uint16, each below K; of 8 bits also (0,), for scores of pairs alone.
        centroids: (K, d) int8.
        data: (T, d * bits / 8) uint8. Codes of 2 and 4 bits stand with the first in the lowest
            bits; of 5 bits the lower four of all d first, and then the fifth of all.
        bits: 8, 5, 4 or 2.
        levels: (2 ** bits,) int8; None where ``bits`` is 8.
        scale: (T,) float32, or None.
        offsets: (N + 1,) int64, which never fall and lie in 0..T.

    Raises:
        ValueError: shapes or dtypes that do not fit, an id of no centroid, offsets beyond the data.
    """

    ids: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
    centroids: Int8Array
    data: npt.NDArray[np.uint8]
    bits: int
    levels: Int8Array | None
    scale: FloatArray | None
    offsets: IntArray

    def __post_init__(self) -> None:
        count = len(self.data)
        shapes: dict[
            str, tuple[npt.NDArray[Any], tuple[type[np.generic], ...], tuple[int, ...]]
        ] = {
            "ids": (self.ids, (np.uint8, np.uint16), (len(self.ids),)),
            "centroids": (self.centroids, (np.int8,), (len(self.centroids), self.dim)),
            "data": (self.data, (np.uint8,), (count, self.dim * self.bits // 8)),
            "offsets": (self.offsets, (np.int64,), (max(1, len(self.offsets)),)),
        }
        if self.levels is not None:
            shapes["levels"] = (self.levels, (np.int8,), (2**self.bits,))
        if self.scale is not None:
            shapes["scale"] = (self.scale, (np.float32,), (count,))
        for name, (array, dtypes, shape) in shapes.items():
            if array.dtype not in dtypes or array.shape != shape or not array.flags.c_contiguous:
                raise ValueError(
                    f"{name} must be {shape} {' or '.join(kind.__name__ for kind in dtypes)}, "
                    f"contiguous, got {array.shape} {array.dtype}"
                )
        whole = self.bits == 8
        if self.bits not in (8, 5, 4, 2) or self.dim % 8 or whole != (self.levels is None):
            raise ValueError(
                f"tokens of 8 bits without levels, or of 5, 4 or 2 with, and of a multiple of 8 "
                f"dimensions are needed, got {self.bits} bits and {self.dim} dimensions"
            )
        if (whole and self.scale is None) or len(self.ids) not in (count, 0 if whole else count):
            raise ValueError(
                f"{count} tokens of {self.bits} bits have {len(self.ids)} ids and "
                f"{0 if self.scale is None else len(self.scale)} scales"
            )
        most = int(self.ids.max(initial=0))
        if len(self.ids) and most >= len(self.centroids):
            raise ValueError(f"a token has centroid {most} of {len(self.centroids)}")
        first, last = int(self.offsets[0]), int(self.offsets[-1])
        if first < 0 or last > count or (self.offsets[1:] < self.offsets[:-1]).any():
            raise ValueError(f"offsets must never fall and lie in 0..{count}, got {self.offsets}")

    @property
    def documents(self) -> int:
        """N."""
        return len(self.offsets) - 1

    @property
    def dim(self) -> int:
        """d, a multiple of 8."""
        return int(self.centroids.shape[1])

    def decoded(self, rows: slice | IntArray) -> FloatArray:
        """Some tokens as numbers (n, d)."""
        data = self.data[rows]
        if self.levels is None:
            numbers = data.view(np.int8).astype(np.float32)
        else:
            numbers = sums_of(self.centroids[self.ids[rows]], self.levels, data, self.bits)
            if self.scale is None:
                return unit_rows(numbers)
        assert self.scale is not None
        numbers *= self.scale[rows, None]
        return numbers


def sums_of(
    centroids: Int8Array, levels: Int8Array, data: npt.NDArray[np.uint8], bits: int
) -> FloatArray:
    """Centroids (n, d) and what the codes ``data`` (n, d * bits / 8) add, whole numbers (n, d)."""
    sums = centroids.astype(np.int16) + levels[unpacked(data, bits)]
    found: FloatArray = np.clip(sums, -127, 127).astype(np.float32)
    return found


def unit_rows(numbers: FloatArray) -> FloatArray:
    """Rows divided by their norm; zeros stay."""
    lengths = np.linalg.norm(numbers, axis=1, keepdims=True)
    lengths[lengths == 0] = 1
    found: FloatArray = numbers / lengths
    return found


def unpacked(packed: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.uint8]:
    """Codes (n, d) of 2, 4 or 5 bits, from the bytes of ``CodedTokens.data``."""
    d = packed.shape[1] * 8 // bits
    lower_bits = min(bits, 4)
    shifts = np.arange(0, 8, lower_bits, dtype=np.uint8)
    lower = packed[:, : d * lower_bits // 8]
    codes = (lower[:, :, None] >> shifts & (2**lower_bits - 1)).reshape(len(packed), d)
    if bits == 5:
        codes |= np.unpackbits(packed[:, d // 2 :], axis=1, bitorder="little") << 4
    found: npt.NDArray[np.uint8] = codes.astype(np.uint8)
    return found
