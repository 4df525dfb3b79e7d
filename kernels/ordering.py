"""The best k: higher score first, then lower index.

``torch.topk`` keeps no order among equals. Where a sort is too slow, scores and indices become one
integer that sorts as they do.
"""

from __future__ import annotations

import torch
from torch import Tensor

# The key of no row: below every other.
NONE = -(2**63)

_LOW = 0xFFFFFFFF


def keys(scores: Tensor, indices: Tensor) -> Tensor:
    """Keys (int64) of float32 scores and indices below 2^32; the larger key is the better.

    Example:
        >>> keys(torch.tensor([2.0, 2.0, 3.0]), torch.arange(3)).argsort(descending=True).tolist()
        [2, 0, 1]
    """
    bits = (scores + 0.0).view(torch.int32)  # + 0.0: -0.0 and 0.0 are equal
    ordered = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(torch.int64)
    return (ordered << 32) | (_LOW - indices)


def first(scores: Tensor, indices: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` largest scores (..., n) and their indices, which rise among equal scores."""
    # A stable sort keeps equals in their order.
    scores, order = scores.sort(dim=-1, descending=True, stable=True)
    return scores[..., :k], indices.gather(-1, order[..., :k])


def best(found: Tensor, k: int) -> Tensor:
    """The ``k`` largest keys of each row (..., n), all if there are fewer, best first."""
    return found.topk(min(k, found.shape[-1]), dim=-1).values


def read(found: Tensor) -> tuple[Tensor, Tensor]:
    """Scores (float32) and indices (int64) of keys; -inf and -1 of ``NONE``."""
    ordered = (found >> 32).to(torch.int32)
    scores = (ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).view(torch.float32)
    none = found == NONE
    return scores.masked_fill(none, -torch.inf), (_LOW - (found & _LOW)).masked_fill(none, -1)
