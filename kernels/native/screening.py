"""A MaxSim screen: queries rounded for it, and searches that score the documents that it leaves."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from maxsight.kernels.native import binding
from maxsight.kernels.native.binding import INT8, Dithering, Preparation, Rows, Screen, Search
from maxsight.kernels.native.rounding import check_rows
from maxsight.kernels.native.tensors import (
    KINDS,
    THREAD_ROWS,
    check,
    check_offsets,
    pointer,
    rows_of,
)


@dataclass(frozen=True)
class Coarse:
    """Documents as a screen holds them, on the CPU.

    Attributes:
        values: (N, d) int8. scale: (N,) float32. sums: (N,) int32, of each row's values.
        offsets: (D + 1,) int64. step, length: (D,) float32.
    """

    values: Tensor
    scale: Tensor
    sums: Tensor
    offsets: Tensor
    step: Tensor
    length: Tensor

    def task(self, kept: list[Tensor]) -> Screen:
        """As the compiled code takes it, checked."""
        tokens, documents = self.values.shape[0], self.offsets.shape[0] - 1
        check("values", self.values, torch.int8, (tokens, self.values.shape[1]))
        check_offsets("offsets", self.offsets, tokens)
        check("scale", self.scale, torch.float32, (tokens,))
        check("sums", self.sums, torch.int32, (tokens,))
        check("step", self.step, torch.float32, (documents,))
        check("length", self.length, torch.float32, (documents,))
        return Screen(
            rows=Rows(
                data=pointer(self.values, kept),
                scale=pointer(self.scale, kept),
                kind=INT8,
                dim=self.values.shape[1],
                sums=pointer(self.sums, kept),
            ),
            offsets=pointer(self.offsets, kept),
            documents=documents,
            step=pointer(self.step, kept),
            length=pointer(self.length, kept),
        )


@dataclass(frozen=True)
class Prepared:
    """Queries rounded for a screen; :mod:`maxsight.kernels.maxsim.screen` has the mathematics.

    Attributes:
        values: (Q, d) int8.
        step: (Q,) float32, by which values are multiplied.
        rise: what :func:`segment_max_sum` adds to products, times a document token's scale.
        spread, margin, rounding: (B,) float32; a true score exceeds the screen's by at most
            ``spread * length ** 2 + margin + rounding * longest``.
    """

    values: Tensor
    step: Tensor
    rise: float
    spread: Tensor
    margin: Tensor
    rounding: Tensor


def prepare(
    queries: Tensor,
    offsets: Tensor,
    coarse: Coarse,
    *,
    weight: Tensor | None,
    seed: int,
    certainty: float,
) -> Prepared:
    """Queries rounded for a screen.

    Args:
        queries: (Q, d) float32, float16, bfloat16 or int8; query b has
            ``offsets[b]:offsets[b + 1]``.
        weight: (Q,) float32, what a row is multiplied by first; None: 1.
        certainty: minus the logarithm of the probability that a bound does not hold.

    Raises:
        BackendError: the library is not there.
        ValueError: dtypes or shapes that do not fit.
    """
    check_rows(queries, weight)
    check_offsets("offsets", offsets, queries.shape[0])
    kept = [queries := queries.contiguous()]
    values = torch.empty(queries.shape, dtype=torch.int8)
    step, norm = torch.empty(2, queries.shape[0])
    spread, margin, rounding = torch.empty(3, offsets.shape[0] - 1)
    task = Preparation(
        dithering=Dithering(
            rows=rows_of(queries, KINDS[queries.dtype], queries.shape[1], None, weight, kept),
            last=queries.shape[0],
            seed=seed,
            values=values.data_ptr(),
            step=step.data_ptr(),
            norm=norm.data_ptr(),
        ),
        offsets=pointer(offsets, kept),
        groups=len(spread),
        screen=coarse.task(kept),
        certainty=certainty,
        spread=spread.data_ptr(),
        margin=margin.data_ptr(),
        rounding=rounding.data_ptr(),
    )
    binding.run(binding.library().maxsight_prepare, [task])
    return Prepared(values, step, task.rise, spread, margin, rounding)


def screened_topk(
    queries: Tensor,
    query_offsets: Tensor,
    rows: Tensor,
    coarse: Coarse,
    k: int,
    *,
    allowed: Tensor | None,
    weight: Tensor | None,
    row_scale: Tensor | None,
    seed: int,
    certainty: float,
) -> tuple[Tensor, Tensor]:
    """The best documents of each query, those that the screen leaves open being scored.

    Memory beyond the answer: 4 MiB of screened scores, and the queries three times.

    Args:
        rows: (N, d) float32, bfloat16 or int8, the documents' tokens; ``coarse`` has their
            offsets.
        k: at most the number of documents.
        allowed: (D,) or (B, D) bool, which documents may be returned; None: all.
        row_scale: (N,) float32, what a row's products are multiplied by; None: 1.
        queries, query_offsets, weight, seed, certainty: as for :func:`prepare`; of the rows' dtype.

    Returns:
        ``(scores, indices)``: (B, k) float32 and int64, best first, ties by lower index; -inf and
        -1 where too few are allowed.

    Raises:
        BackendError, ValueError: as :func:`prepare`.
    """
    check_rows(queries, weight)
    check_offsets("query_offsets", query_offsets, queries.shape[0])
    kept = [queries := queries.contiguous()]
    kind, dim = KINDS[rows.dtype], rows.shape[1]
    check("queries", queries, rows.dtype, (queries.shape[0], dim))
    kept.append(rows := rows.contiguous())
    exact = rows_of(rows, kind, dim, None, row_scale, kept)
    if tuple(rows.shape) != tuple(coarse.values.shape):
        raise ValueError(f"rows {tuple(rows.shape)} and screen {coarse.values.shape} differ")
    if row_scale is not None:
        check("row_scale", row_scale, torch.float32, (rows.shape[0],))
    groups, documents = query_offsets.shape[0] - 1, coarse.offsets.shape[0] - 1
    shared = allowed is not None and allowed.ndim == 1
    if allowed is not None:
        check("allowed", allowed, torch.bool, (documents,) if shared else (groups, documents))
    if not 0 <= k <= documents:
        raise ValueError(f"k must be between 0 and the {documents} documents, got {k}")
    scores = torch.empty(groups, k).fill_(-torch.inf)
    indices = torch.empty(groups, k, dtype=torch.int64).fill_(-1)
    if not scores.numel():
        return scores, indices
    task = Search(
        queries=rows_of(queries, kind, dim, None, weight, kept),
        query_offsets=pointer(query_offsets, kept),
        groups=groups,
        rows=exact,
        screen=coarse.task(kept),
        allowed=pointer(allowed, kept),
        allowed_stride=0 if shared else documents,
        seed=seed,
        certainty=certainty,
        threads=max(1, min(torch.get_num_threads(), rows.shape[0] // THREAD_ROWS)),
        k=k,
        scores=scores.data_ptr(),
        indices=indices.data_ptr(),
    )
    binding.run(binding.library().maxsight_search, [task])
    return scores, indices
