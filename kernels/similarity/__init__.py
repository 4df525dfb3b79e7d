"""Similarity search: which rows of a database are nearest to each query.

``topk`` is exact, filters while it searches, and never holds a (Q, N) matrix of scores. ``rescore``
scores a shortlist. Tensors are searched where they lie; NumPy's arrays on the CPU, without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

import numpy as np

from maxsight.kernels.similarity import arrays

if TYPE_CHECKING:
    from torch import Tensor

    from maxsight.kernels.array_types import (
        BoolArray,
        FloatArray,
        HalfArray,
        Int8Array,
        IntArray,
    )

__all__ = ["rescore", "topk"]


@overload
def topk(
    queries: Tensor,
    database: Tensor,
    k: int,
    *,
    allowed: Tensor | None = None,
    scale: Tensor | None = None,
    normalize: bool = False,
    largest: bool = True,
) -> tuple[Tensor, Tensor]: ...


@overload
def topk(
    queries: FloatArray,
    database: Int8Array | HalfArray,
    k: int,
    *,
    allowed: BoolArray | None = None,
    scale: FloatArray | None = None,
    threads: int = 1,
) -> tuple[FloatArray, IntArray]: ...


def topk(
    queries: Any,
    database: Any,
    k: int,
    *,
    allowed: Any = None,
    scale: Any = None,
    normalize: bool = False,
    largest: bool = True,
    threads: int = 1,
) -> Any:
    """The ``k`` database rows of largest inner product with each query.

    Exact for a tensor: the answer is that of scoring every allowed row. Products are summed in
    float32 (float64 if either input is), whatever lower precision the search is screened in; the
    CPU's own room gives a pair of query and row the same score whatever else is asked for with it.

    Memory beyond the inputs and the (Q, k) answer: on a CPU Q * D * 5 bytes, for at most 4,096
    queries at a time, 12 * Q * k bytes a thread and 1 MiB a thread, and where rows lie in tight
    clusters 8 * Q * D more a thread; on a GPU 4 * Q bytes a block of database rows, at most 32 MiB
    at a time.

    Args:
        queries: (Q, D) floating point tensor, finite.
        database: (N, D) on the same device: float32, float16, bfloat16 or float64, which may differ
            from the queries' dtype; or int8 with one ``scale`` a row.
        k: at least 1.
        allowed: rows that may be returned: (N,) or, a row a query, (Q, N) bool, or a bitmap of
            either (``maxsight.kernels.bitmap``).
        scale: (N,) float32, what a row's numbers are multiplied by; None: 1.
        normalize: divide queries and rows by their L2 norm (the cosine). It reads the database once
            more: who searches often stores normalised rows.
        largest: False returns the rows of smallest product instead, smallest first.
        threads: of arrays: share the queries; tensors take torch's.

    NumPy's arrays need no torch: queries (Q, D) float32, a database (N, D) int8 or float16,
    ``allowed`` (N,) bool; neither ``normalize`` nor ``largest=False``.

    Returns:
        ``(scores, indices)``: (Q, k') float32 and (Q, k') int64, best first, equal scores by lower
        index. ``k' = min(k, N)``; a query with fewer allowed rows ends in score ``-inf`` (``inf``
        where ``largest`` is False) and index ``-1``.

    Raises:
        ValueError: shapes or dtypes that do not fit, ``k`` below 1.
        BackendError: tensors on several devices, or not where ``MAXSIGHT_KERNELS`` computes.

    Example:
        >>> database = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
        >>> topk(torch.tensor([[1.0, 0.0]]), database, 2)[1].tolist()
        [[0, 2]]
    """
    if isinstance(queries, np.ndarray):
        if normalize or not largest:
            raise ValueError("arrays are searched for the largest products as they are")
        return arrays.topk(queries, database, k, allowed=allowed, scale=scale, threads=threads)
    from maxsight.kernels import bitmap
    from maxsight.kernels.similarity import checks, operators

    checks.check(queries, database, scale)
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    allowed = bitmap.checked(allowed, rows=len(database), queries=len(queries))
    queries, scale = checks.scaled(queries, database, scale, normalize)
    queries = queries if largest else -queries
    scores, indices = operators.topk(queries, database.contiguous(), k, allowed, scale)
    return (scores, indices) if largest else (-scores, indices)


def rescore(
    queries: FloatArray,
    database: Int8Array,
    candidates: IntArray,
    k: int,
    *,
    scale: FloatArray,
    threads: int = 1,
) -> tuple[FloatArray, IntArray]:
    """The ``k`` best of some rows a query, of NumPy's arrays.

    Args:
        queries: (Q, D) float32, finite.
        database: (N, D) int8. scale: (N,) float32, what a row's numbers are multiplied by.
        candidates: (Q, C) int64 rows, none twice a query, best guess first; what is no row is none.
        k: at least 1.
        threads: share the queries.

    Returns:
        ``(scores, rows)``: (Q, min(k, C)) float32 and int64, best first, equal scores by lower row;
        -inf and -1 where a query has fewer candidates.

    Raises:
        ValueError: shapes that do not fit.
    """
    return arrays.rescore(queries, database, candidates, k, scale=scale, threads=threads)
