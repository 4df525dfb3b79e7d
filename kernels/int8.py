"""The one rounding of rows to int8: each on a scale of its own, its largest number at +-127.

A row is ``codes * scale``; of zeros alone, the scale is 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from maxsight.kernels.array_types import FloatArray, Int8Array
from maxsight.kernels.chunks import BYTES, CACHE_BYTES, chunks

if TYPE_CHECKING:
    from torch import Tensor

_LARGEST = 127


def rounded(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (N, D) as int8 and their scales (N,) float32, on the rows' device."""
    import torch

    codes = rows.new_empty(rows.shape, dtype=torch.int8)
    scales = rows.new_empty(len(rows), dtype=torch.float32)
    # On a processor what is rounded should stay in its cache; a GPU takes much at once.
    limit = CACHE_BYTES if rows.device.type == "cpu" else 8 * BYTES
    for part in chunks(len(rows), rows.shape[1], limit=limit):
        numbers = rows[part].float()
        step = numbers.abs().amax(1) / _LARGEST if rows.shape[1] else scales.new_zeros(len(numbers))
        codes[part] = (numbers / step.where(step > 0, 1)[:, None]).round()
        scales[part] = step
    return codes, scales


def rounded_array(rows: FloatArray) -> tuple[Int8Array, FloatArray]:
    """The same of a NumPy array, which is overwritten: there may be no room for another."""
    scales = np.abs(rows).max(axis=1, initial=0) / np.float32(_LARGEST)
    rows /= np.where(scales > 0, scales, np.float32(1))[:, None]
    return np.rint(rows, out=rows).astype(np.int8), scales
