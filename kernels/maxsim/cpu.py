"""MaxSim on a CPU: native code where it is built, else torch in blocks that stay in cache.

Both keep products in float32. The product runs in int8 when both sides are int8, in bfloat16 when
both are exact in it (int8 values are, their scale comes after), else in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

from maxsight.kernels.chunks import BYTES
from maxsight.kernels.maxsim.archive import Archive
from maxsight.kernels.maxsim.codes import sum_dtype
from maxsight.kernels.maxsim.cpu_queries import Queries

# Plain torch is as fast as it gets there: gathers and sums.
from maxsight.kernels.maxsim.reference import best_of, score_backward, score_pairs_backward
from maxsight.kernels.maxsim.values import Side

__all__ = ["score", "score_backward", "score_pairs", "score_pairs_backward", "topk"]


def score(
    queries: Side, documents: Side, *, normalize: bool, answers: bool
) -> tuple[Tensor, Tensor]:
    """As :func:`reference.score`."""
    given = Queries.of(queries, documents, normalize)
    archive = Archive(documents, normalize, given.rows.dtype)
    count = documents.count
    scores = torch.empty((given.count, count), dtype=sum_dtype(queries, documents))
    shape = (len(given.rows), count) if answers else (0, 0)
    found = torch.empty(shape, dtype=torch.int32)
    for part in archive.parts(count):
        places = found[:, part] if answers else None
        scores[:, part] = given.scores(archive.read(part), places=places)
    return scores, found


def score_pairs(
    queries: Side, documents: Side, *, pairs: Tensor | None, normalize: bool, answers: bool
) -> tuple[Tensor, Tensor]:
    """As :func:`reference.score_pairs`."""
    given = Queries.of(queries, documents, normalize)
    archive = Archive(documents, normalize, given.rows.dtype)
    if pairs is None:
        pairs = torch.arange(given.count)[:, None].expand(-1, 2)
    lengths = queries.offsets.diff()[pairs[:, 0]]
    first = lengths.cumsum(0) - lengths
    scores = torch.empty(len(pairs), dtype=sum_dtype(queries, documents))
    found = torch.empty(int(lengths.sum()) if answers else 0, dtype=torch.int32)
    # The pairs of a query together: its tokens are packed for the product once.
    order = pairs[:, 0].argsort(stable=True)
    numbers, counts = torch.unique_consecutive(pairs[order, 0], return_counts=True)
    for number, of_query in zip(numbers.tolist(), torch.split(order, counts.tolist())):
        one = given.one(number)
        for part in archive.groups(pairs[of_query, 1]):
            chosen = of_query[part]
            places = None
            if answers:
                places = torch.empty((len(one.rows), len(chosen)), dtype=torch.int32)
            scores[chosen] = one.scores(archive.gather(pairs[chosen, 1]), places=places)[0]
            if places is not None:
                found[first[chosen][:, None] + torch.arange(len(places))] = places.T
    return scores, found


def topk(
    queries: Side, documents: Side, k: int, *, allowed: Tensor | None, normalize: bool
) -> tuple[Tensor, Tensor]:
    """As :func:`reference.topk`."""
    given = Queries.of(queries, documents, normalize)
    archive = Archive(documents, normalize, given.rows.dtype)
    parts = archive.parts(max(1, BYTES // 32 // max(1, given.count)))
    return best_of(
        lambda part: given.scores(archive.read(part)), parts, queries, documents, k, allowed=allowed
    )
