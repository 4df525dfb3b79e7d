"""The best documents of each query on a CPU: all scored, or those that an int8 screen leaves."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from maxsight.kernels import bitmap, native, ordering
from maxsight.kernels.chunks import BYTES, chunks
from maxsight.kernels.maxsim.archive import Archive
from maxsight.kernels.maxsim.codes import sum_dtype
from maxsight.kernels.maxsim.cpu_queries import Queries
from maxsight.kernels.maxsim.screen import (
    CERTAINTY,
    QUERY_SEED,
    Int8Screen,
    allowance,
    coarse,
)
from maxsight.kernels.maxsim.values import Side

# A screen pays for itself where it leaves most documents unread, at least so many for each of the k
# that must be read,
_DOCUMENTS_EACH = 6
# and where a query's products, of two numbers each, take longer than a few calls of Python.
_LEAST_PRODUCTS = 1 << 25


def topk(
    queries: Side,
    documents: Side,
    k: int,
    *,
    allowed: Tensor | None,
    normalize: bool,
    screen: Int8Screen | None,
) -> tuple[Tensor, Tensor]:
    """As :func:`reference.topk`, the screen deciding which documents are read, where it pays.

    A negative query weight turns a maximum into a minimum, which the screen does not bound: then it
    is not used.
    """
    given = Queries.of(queries, documents, normalize)
    archive = Archive(documents, normalize, given.rows.dtype)
    count = documents.count
    keep = None if allowed is None else bitmap.unpack(allowed, count)
    if (
        screen is not None
        and screen_pays(given, archive, k)
        and (queries.weight is None or not bool((queries.weight < 0).any()))
    ):
        scores, indices = _screened(given, archive, k, screen, keep, sum_dtype(queries, documents))
    else:
        best = _Best.empty(given.count, min(k, count), sum_dtype(queries, documents))
        for part in archive.parts(max(1, BYTES // 32 // max(1, given.count))):
            best.add(given.scores(archive.read(part)), part, keep)
        scores, indices = best.scores, best.indices
    _fill(scores, indices, keep, count)
    return scores, indices


def _fill(scores: Tensor, indices: Tensor, keep: Tensor | None, count: int) -> None:
    """Gives places left at -inf to documents, lowest first, that may be returned and are not: they
    all score -inf, having no tokens.
    """
    left = scores == -torch.inf
    for number in left.any(1).nonzero().flatten().tolist():
        found = indices[number][~left[number]]
        rest = torch.ones(count, dtype=torch.bool)
        if keep is not None:
            rest &= keep if keep.ndim == 1 else keep[number]
        rest[found] = False
        places = rest.nonzero().flatten()[: indices.shape[1] - len(found)]
        indices[number, len(found) :] = -1
        indices[number, len(found) : len(found) + len(places)] = places


def screen_pays(queries: Queries, archive: Archive, k: int) -> bool:
    """Whether screening and scoring the rest is likely to take less time than scoring all."""
    products = archive.documents.rows * queries.rows.numel()
    return (
        native.available() is not None
        and native.multiplies(torch.int8)
        and archive.documents.count >= _DOCUMENTS_EACH * k
        and products >= _LEAST_PRODUCTS * queries.count
    )


def _screened(
    given: Queries,
    archive: Archive,
    k: int,
    screen: Int8Screen,
    keep: Tensor | None,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """The best documents of each query, of which those alone are read whose bound reaches the k-th
    score.
    """
    copy = coarse(screen, archive.offsets)
    count = archive.documents.count
    whole = archive.whole()
    if whole is not None:
        return native.screened_topk(
            given.rows,
            given.offsets,
            whole.rows,
            copy,
            min(k, count),
            allowed=keep,
            weight=given.weight,
            row_scale=whole.scale,
            seed=QUERY_SEED,
            certainty=CERTAINTY,
        )
    best = _Best.empty(given.count, min(k, count), dtype)
    rounded = native.prepare(
        given.rows.to(torch.float32) if given.rows.dtype == torch.float64 else given.rows,
        given.offsets,
        copy,
        weight=None if given.weight is None else given.weight.to(torch.float32),
        seed=QUERY_SEED,
        certainty=CERTAINTY,
    )
    for part in chunks(count, given.count, limit=BYTES // 8):
        sums = native.segment_max_sum(
            screen.values,
            archive.offsets[part.start : part.stop + 1],
            rounded.values,
            given.offsets,
            query_weight=rounded.step,
            row_scale=screen.scale,
            row_sums=screen.sums,
            rise=rounded.rise,
        )
        bounds = sums.T + allowance(rounded, screen.step[part], screen.length[part])
        if keep is not None:
            bounds.masked_fill_(~keep[..., part].expand_as(bounds), -torch.inf)
        for number in range(given.count):
            _rescored(given.one(number), archive, bounds[number], part.start, best, number)
    return best.scores, best.indices


def _rescored(
    query: Queries, archive: Archive, bounds: Tensor, start: int, best: _Best, number: int
) -> None:
    """Scores documents, those of the highest bounds first, until no bound reaches the k-th score;
    overwrites bounds (S,), of documents from ``start`` on.
    """
    size = best.scores.shape[1]
    while size:
        worst = best.scores[number, -1].to(bounds.dtype).clamp_min(torch.finfo(bounds.dtype).min)
        # A bound that equals the k-th score may still win by its lower index.
        chosen = (bounds >= worst).nonzero().flatten()
        if len(chosen) == 0:
            return
        if len(chosen) > size:
            chosen = chosen[bounds[chosen].topk(size).indices].sort().values
        bounds[chosen] = -torch.inf
        for part in archive.groups(chosen + start):
            documents = (chosen + start)[part]
            best.join(number, query.scores(archive.gather(documents))[0], documents)
        size *= 4


@dataclass(frozen=True)
class _Best:
    """The best documents so far: scores (B, k), best first, and indices, ``-inf`` and -1 in what is
    not filled.
    """

    scores: Tensor
    indices: Tensor

    @staticmethod
    def empty(queries: int, k: int, dtype: torch.dtype) -> _Best:
        scores = torch.full((queries, k), -torch.inf, dtype=dtype)
        return _Best(scores, torch.full((queries, k), -1))

    def add(self, scores: Tensor, part: slice, keep: Tensor | None) -> None:
        """The documents of a slice, after all that joined before, of scores (B, S), join, but for
        those not kept.
        """
        places = torch.arange(part.start, part.stop).expand_as(scores)
        if keep is not None:
            forbidden = ~keep[..., part].expand_as(scores)
            scores = scores.masked_fill(forbidden, -torch.inf)
            places = places.masked_fill(forbidden, -1)
        scores, places = torch.cat([self.scores, scores], 1), torch.cat([self.indices, places], 1)
        scores, places = ordering.first(scores, places, self.scores.shape[1])
        self.scores.copy_(scores)
        self.indices.copy_(places)

    def join(self, query: int, scores: Tensor, places: Tensor) -> None:
        """Documents ``places`` (S,) of scores (S,) join those of one query."""
        scores = torch.cat([self.scores[query], scores])
        places = torch.cat([self.indices[query], places])
        by_index = places.where(places >= 0, torch.iinfo(torch.int64).max).argsort()  # -1 last
        scores, places = scores[by_index], places[by_index]
        self.scores[query], self.indices[query] = ordering.first(
            scores, places, self.scores.shape[1]
        )
