"""What does LeanVec keep of the ten best rows, against principal components, by shape of the data?

Two questions apart. Codes: how many of the ten best are in a shortlist that is found without lists,
by numbers (a quarter of the dimensions) or by 4-bit codes (D / 8 bytes, of half the dimensions).
Lists: which share of all rows lies in the lists that have to be visited to see 95 % of the ten
best, where lists are clusters of rows as they are, or as LeanVec projects them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from maxsight.benchmarks.material.ann_data import Collection, Gap, drawn, made
from maxsight.benchmarks.measure.peaks import threads
from maxsight.benchmarks.measure.rows import Row
from maxsight.index import faiss_build
from maxsight.index.ann import auto
from maxsight.index.ann.projections import learn
from maxsight.index.array_types import Floats, Rows
from maxsight.kernels.halves import unpack

K = 10
_SHORTLIST = 50
_LISTS_A_ROOT = 2
_SEEN = 0.95


def run(
    data: Path,
    *,
    size: int = 20_000,
    dim: Annotated[list[int] | None, typer.Option(help="May be repeated.")] = None,
    queries: int = 300,
    known: Annotated[int, typer.Option(help="Queries to learn from.")] = 5_000,
    real: Annotated[bool, typer.Option(help="Drawings and captions too; encoded once.")] = True,
) -> list[Row]:
    """Measure.

    Args:
        data: folder for what is fetched, rendered and encoded.
        size: of made collections.
        dim: their widths; 512, 768 and 1,024 unless given.
        queries: to each of them.
        known: to learn from.
        real: whether the built-in encoder's vectors are measured.
    """
    rows = []
    with threads(1):
        for collection in _collections(data, size, dim or [512, 768, 1024], queries, known, real):
            rows += list(_codes(collection)) + list(_lists(collection))
    return rows


def _collections(
    data: Path, size: int, dims: list[int], queries: int, known: int, real: bool
) -> Iterator[Collection]:
    gaps: tuple[Gap, ...] = ("none", "mild", "strong")
    for dim in dims:
        for gap in gaps:
            yield made(size, dim, gap, queries=queries, known=known)
    if real:
        yield drawn(data)


def _codes(collection: Collection) -> Iterator[Row]:
    dim = collection.vectors.shape[1]
    _, truth = collection.truth(K)
    quarter, half, codes = dim // 4, dim // 2, f"PQ{dim // 4}x4fs"
    for name, spec in (
        ("numbers, principal components", f"leanvec-id:{quarter}/SQfp16"),
        ("numbers, LeanVec", f"leanvec:{quarter}/SQfp16"),
        ("codes, all dimensions", codes),
        ("codes, principal components", f"leanvec-id:{half}/{codes}"),
        ("codes, LeanVec", f"leanvec:{half}/{codes}"),
    ):
        index = auto.make(spec, dim)
        index.train(unpack(collection.vectors), collection.known)
        index.add(collection.vectors)
        _, rows = index.search(collection.queries, _SHORTLIST)
        found = float((rows[:, :, None] == truth[:, None, :]).any(axis=1).mean())
        metric = f"the {K} best in {_SHORTLIST}"
        yield Row("leanvec", collection.name, name, metric, found, runs=len(truth))


def _lists(collection: Collection) -> Iterator[Row]:
    dim = collection.vectors.shape[1]
    rows, (_, truth) = unpack(collection.vectors), collection.truth(K)
    reduced = learn(rows, collection.known, reduced=dim // 4)
    spaces = {
        "lists of rows": (rows, collection.queries),
        "lists in LeanVec": (rows @ reduced.rows.T, collection.queries @ reduced.queries.T),
    }
    for name, (placed, asked) in spaces.items():
        share = _visited(placed, asked, truth, round(_LISTS_A_ROOT * len(rows) ** 0.5))
        metric = f"rows visited for {_SEEN:.0%} of the {K} best"
        yield Row("leanvec", collection.name, name, metric, 100 * share, "%", runs=len(truth))


def _visited(rows: Floats, queries: Floats, truth: Rows, lists: int) -> float:
    """The mean share of all rows in the least number of lists that hold enough of the truth."""
    faiss = faiss_build.load()
    clusters = faiss.Kmeans(
        rows.shape[1], lists, niter=10, spherical=True, min_points_per_centroid=1
    )
    clusters.train(rows)
    owner = clusters.index.search(rows, 1)[1][:, 0]
    order = np.argsort(-(queries @ clusters.centroids.T), axis=1)
    place = np.argsort(order, axis=1)
    visited = np.cumsum(np.bincount(owner, minlength=lists)[order], axis=1).mean(axis=0)
    needed = np.sort(np.take_along_axis(place, owner[truth], axis=1).ravel())
    probes = needed[int(np.ceil(_SEEN * len(needed))) - 1]
    return float(visited[probes] / len(rows))
