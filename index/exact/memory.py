"""Exact search over float16 vectors.

The vectors are kept once, in blocks of ``BLOCK_ROWS`` rows, so that one query can use every core
and so that appending copies one block at most. ``maxsight.kernels.similarity`` scans them for
candidates, on a GPU where there is one. Their scores are then computed again in one fixed way, so
that results do not depend on the size of the batch, the blocks, the threads or the device, and
equal vectors tie exactly.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from maxsight import machine
from maxsight.index.array_types import Floats, Halves, Mask, Rows
from maxsight.index.exact.arguments import checked_queries
from maxsight.index.exact.gpu import MAX_FETCH, GpuFlat
from maxsight.kernels import array_ordering, similarity
from maxsight.kernels.halves import unpack

# 8 MB at D = 512: of the sizes between 2,048 and 50,000 the fastest for 1 and for 64 queries.
BLOCK_ROWS = 8192
# Below this many multiplications a search stays on the core that asked: about 2 ms.
SMALL_SEARCH = 16_000_000
# Bounds the candidates held at once for a batch of queries (16 bytes each).
CANDIDATES = 4_000_000

_T = TypeVar("_T")
_R = TypeVar("_R")


class ExactIndex:
    """Immutable: ``extended`` makes a longer one that shares the full blocks.

    Args:
        dim: D.
        blocks: (n, D) float16; all but the last hold ``BLOCK_ROWS`` rows.
        gpu: a copy of these blocks, or of the first of them, on a GPU.
    """

    def __init__(
        self, dim: int, blocks: tuple[Halves, ...] = (), *, gpu: GpuFlat | None = None
    ) -> None:
        self.dim = dim
        self._gpu = gpu or GpuFlat(dim)
        self._blocks = blocks

    def __len__(self) -> int:
        return sum(map(len, self._blocks))

    def extended(self, batches: Iterable[Halves]) -> ExactIndex:
        """This index and then the rows of ``batches``, each (n, D) float16."""
        blocks = list(self._blocks)
        buffer = np.empty((BLOCK_ROWS, self.dim), dtype=np.float16)
        filled = 0
        if blocks and len(blocks[-1]) < BLOCK_ROWS:
            last = blocks.pop()
            filled = len(last)
            buffer[:filled] = last
        for batch in batches:
            start = 0
            while start < len(batch):
                part = batch[start : start + BLOCK_ROWS - filled]
                buffer[filled : filled + len(part)] = part
                filled += len(part)
                start += len(part)
                if filled == BLOCK_ROWS:
                    blocks.append(buffer)
                    buffer = np.empty_like(buffer)
                    filled = 0
        if filled:
            blocks.append(buffer[:filled].copy())
        return ExactIndex(self.dim, tuple(blocks), gpu=self._gpu)

    def take(self, rows: npt.ArrayLike) -> Halves:
        """The stored (n, D) float16 vectors of ``rows``."""
        rows = np.asarray(rows, dtype=np.int64)
        found = np.empty((len(rows), self.dim), dtype=np.float16)
        owner = rows // BLOCK_ROWS
        for block in np.unique(owner):
            mine = owner == block
            found[mine] = self._blocks[block][rows[mine] - block * BLOCK_ROWS]
        return found

    def scores(self, query: Floats, rows: slice | npt.ArrayLike) -> Floats:
        """Inner products of one (D,) query with ``rows``: (n,) float32, in bounded memory."""
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        rows = np.asarray(rows, dtype=np.int64)
        starts = range(0, len(rows), BLOCK_ROWS)
        chunks = [rows[start : start + BLOCK_ROWS] for start in starts]
        parts = _spread(
            lambda chunk: inner(self.take(chunk), query),
            chunks,
            products=len(rows) * self.dim,
        )
        return np.concatenate([*parts, np.empty(0, dtype=np.float32)])

    def search(
        self, queries: npt.ArrayLike, k: int, *, allowed: Mask | None = None
    ) -> list[tuple[Rows, Floats]]:
        """The ``k`` rows of largest inner product for each query.

        Args:
            queries: (Q, D).
            allowed: (N,) bool; rows outside it are never returned. None means all.

        Returns:
            For each query ``(rows, scores)``, best first, equal scores by lower row; fewer than
            ``k`` only where fewer are allowed.

        Raises:
            ValueError: a shape that does not fit, a number that is not finite, ``k`` below 1.
        """
        queries = checked_queries(queries, self.dim, k, allowed=allowed, rows=len(self))
        available = len(self) if allowed is None else int(np.count_nonzero(allowed))
        k = min(k, available)
        if not k:
            none = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
            return [none] * len(queries)
        if available == len(self):
            allowed = None
        results: list[tuple[Rows, Floats]] = [None] * len(queries)  # type: ignore[list-item]
        waiting = np.arange(len(queries))
        fetch = min(k + max(8, k // 8), available)
        while len(waiting):
            unsettled: list[int] = []
            step = max(1, CANDIDATES // (fetch * max(1, len(self._blocks))))
            for start in range(0, len(waiting), step):
                group = waiting[start : start + step]
                rows, bounds = self._candidates(queries[group], fetch, allowed, available)
                for query, found, bound in zip(group, rows, bounds, strict=True):
                    best = self._settle(queries[query], found, float(bound), k)
                    if best is None and fetch < available:
                        unsettled.append(query)
                    elif best is not None:
                        results[query] = best
            waiting = np.asarray(unsettled, dtype=np.int64)
            fetch = min(fetch * 4, available)
        return results

    def _settle(
        self, query: Floats, rows: Rows, bound: float, k: int
    ) -> tuple[Rows, Floats] | None:
        """The best ``k`` of the candidates; None if a row that is not among them might be better.

        A true score above ``bound`` belongs to a candidate.
        """
        rows = rows[rows >= 0]
        if len(rows) < k:
            return None
        scores = inner(self.take(rows), query)
        scores, rows = array_ordering.best(scores, rows, k)
        return (rows, scores) if bound < scores[-1] else None

    def _candidates(
        self, queries: Floats, fetch: int, allowed: Mask | None, available: int
    ) -> tuple[Rows, Floats]:
        """(Q, fetch) rows of about the largest scores, and (Q,) a bound on those of all others."""
        norms = np.linalg.norm(queries, axis=1).astype(np.float32)
        # Two float32 sums of D products, the candidate's and the final one, differ by less.
        error = self.dim * np.float32(2.0**-23) * norms
        # The GPU knows no masks: enough is fetched for the allowed rows to be among it.
        wide = 2 * fetch * len(self) // available + 32
        if wide <= min(MAX_FETCH, len(self)) and self._gpu.ready(len(queries)):
            answer = self._gpu.search(queries, wide, self._blocks)
            if answer is not None:
                scores, rows = answer
                wrong = (rows < 0) | (rows >= len(self))
                if allowed is not None:
                    wrong |= ~allowed[np.where(wrong, 0, rows)]
                bounds = scores.min(axis=1) + error + np.float32(2.0**-11) * norms
                return np.where(wrong, -1, rows), bounds
        found = _spread(
            lambda block: self._search_block(block, queries, fetch, allowed),
            range(len(self._blocks)),
            products=len(queries) * available * self.dim,
        )
        scores = np.concatenate([scores for scores, _ in found], axis=1)
        rows = np.concatenate([rows for _, rows in found], axis=1)
        if scores.shape[1] > fetch:
            best = np.argpartition(scores, -fetch, axis=1)[:, -fetch:]
            scores = np.take_along_axis(scores, best, axis=1)
            rows = np.take_along_axis(rows, best, axis=1)
        if fetch == available:
            return rows, np.full(len(queries), -np.inf, dtype=np.float32)
        return rows, scores.min(axis=1) + error

    def _search_block(
        self, block: int, queries: Floats, fetch: int, allowed: Mask | None
    ) -> tuple[Floats, Rows]:
        vectors = self._blocks[block]
        first = block * BLOCK_ROWS
        mine = None if allowed is None else allowed[first : first + len(vectors)]
        fetch = min(fetch, len(vectors) if mine is None else int(np.count_nonzero(mine)))
        if not fetch:
            empty = np.empty((len(queries), 0))
            return empty.astype(np.float32), empty.astype(np.int64)
        scores, rows = similarity.topk(queries, vectors, fetch, allowed=mine)
        return scores, rows + first


def inner(vectors: Halves, query: Floats) -> Floats:
    """Inner products, (n,) float32, each row summed by itself: the same bits wherever it stands."""
    sums = np.empty(len(vectors), dtype=np.float32)
    for start in range(0, len(vectors), 256):
        stop = start + 256
        np.einsum("nd,d->n", unpack(vectors[start:stop]), query, out=sums[start:stop])
    return sums


def _spread(work: Callable[[_T], _R], parts: Iterable[_T], *, products: float) -> list[_R]:
    """``work`` on each part, each by one core; ``products`` is the work of all in multiplications.

    Waking another core takes longer than a small search does.
    """
    parts = list(parts)
    threads = machine.threads()
    if products > SMALL_SEARCH and len(parts) > 1 and threads > 1:
        return list(_pool(os.getpid(), threads).map(work, parts))
    return [work(part) for part in parts]


@functools.lru_cache(maxsize=1)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Workers of one core each. A forked child makes its own."""
    return ThreadPoolExecutor(threads, thread_name_prefix="maxsight-search")
