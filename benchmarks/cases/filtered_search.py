"""Does a filter cost an index recall, and time, however few rows it lets through?

An index is tuned without any filter for recall@10 of .95, on queries of the same kind that it has
not learned from, with two standard errors to spare; filters are then put on. Some draw rows by lot;
others let those through that are about one thing, which may lie anywhere, near the query or far.
Truth is exact search over the allowed rows, which is also the contender that times are compared
with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, cast, get_args

import numpy as np
import typer

from maxsight.benchmarks.material.ann_data import Collection, Gap, made
from maxsight.benchmarks.measure.interleave import interleave, processor_stopwatch
from maxsight.benchmarks.measure.parity import ParityError
from maxsight.benchmarks.measure.peaks import threads
from maxsight.benchmarks.measure.rows import Row
from maxsight.index.ann import auto, searcher
from maxsight.index.ann.contract import Effort, VectorIndex
from maxsight.index.array_types import Floats, Mask, Rows
from maxsight.index.building import tuning
from maxsight.index.exact.memory import ExactIndex

K = 10
RECALL = 0.95
_TUNED_ON = 1_000
_SELECTIVITIES = (1.0, 0.1, 0.01, 0.001)
_KINDS = ("by lot", "about one thing")

Found = Sequence[tuple[Rows, Floats]]


def run(
    data: Path,
    *,
    size: int = 200_000,
    dim: int = 512,
    index: Annotated[str | None, typer.Option(help="Instead of what auto chooses.")] = None,
    gap: Annotated[list[str] | None, typer.Option(help="none, mild, strong; repeatable.")] = None,
    queries: int = 300,
    rounds: int = 3,
) -> list[Row]:
    """Measure.

    Args:
        data: not needed.
        size: how many vectors.
        dim: of what width.
        index: its spec.
        gap: kinds of collection (benchmarks/material/ann_data.py): in ``none`` queries are drawn
            as rows are, in the others beside them.
        queries: how many, asked in one batch.
        rounds: of every contender.
    """
    rows = []
    spec = index or auto.choose(size, dim, budget=2**40, texts=True).spec
    for name in gap or get_args(Gap):
        collection = made(size, dim, cast(Gap, name), queries=queries, known=10_000 + _TUNED_ON)
        with threads(1):
            rows += _measure(collection, spec, rounds)
    return rows


def _measure(collection: Collection, spec: str, rounds: int) -> list[Row]:
    exact = ExactIndex(collection.vectors.shape[1]).extended([collection.vectors])
    index = _built(collection, spec)
    index.effort = _tuned(index, exact, collection.known[:_TUNED_ON])
    contender = f"{spec}, {index.effort.probes} probes, {index.effort.shortlist} scored again"
    rows, asked = [], collection.queries
    draw = np.random.default_rng(0)
    for share in _SELECTIVITIES:
        for kind in _KINDS if share < 1 else ("none",):
            allowed = None if share == 1 else _filter(collection, kind, share, draw)
            case = f"{collection.name}, {100 * share:g} % allowed"
            case += "" if share == 1 else f" {kind}"
            found = searcher.search(index, exact, asked, K, allowed=allowed)
            true = exact.search(asked, K, allowed=allowed)
            if allowed is not None and not all(allowed[row].all() for row, _ in found):
                raise ParityError(f"{spec} returned a forbidden row at {case}")
            recall, _ = _recall(found, true)
            rows.append(
                Row("filters", case, contender, f"recall@{K}", round(recall, 4), runs=len(asked))
            )
            ask = partial(searcher.search, index, exact, asked, K, allowed=allowed)
            scan = partial(exact.search, asked, K, allowed=allowed)
            times = interleave(
                {contender: _stopwatch(ask), "exact": _stopwatch(scan)}, rounds=rounds
            )
            for name, seconds in times.items():
                rates = [len(asked) / each for each in seconds]
                rows.append(Row.of("filters", case, name, "rate", rates, "queries/CPU s"))
    return rows


def _stopwatch(search: Callable[[], object]) -> Callable[[int], float]:
    return processor_stopwatch(lambda _: search())


def _built(collection: Collection, spec: str) -> VectorIndex:
    count, dim = collection.vectors.shape
    index = auto.make(spec, dim)
    sample = index.sample_rows(count)
    chosen = np.sort(np.random.default_rng(0).choice(count, sample, replace=False))
    index.train(collection.vectors[chosen].astype(np.float32), collection.known[_TUNED_ON:])
    index.add(collection.vectors)
    return index


def _tuned(index: VectorIndex, exact: ExactIndex, queries: np.ndarray) -> Effort:
    """The cheapest effort that surely reaches ``RECALL`` without a filter; else the best."""
    true = exact.search(queries, K)
    best = (0.0, index.effort)
    for effort in index.efforts(K):
        found = searcher.search(index, exact, queries, K, effort=effort)
        recall, margin = _recall(found, true)
        if recall - margin >= RECALL:
            return effort
        best = max(best, (recall, effort))
    return best[1]


def _filter(collection: Collection, kind: str, share: float, draw: np.random.Generator) -> Mask:
    """(N,) with that share true."""
    count = len(collection.vectors)
    allowed = np.zeros(count, dtype=np.bool_)
    number = max(K, round(share * count))
    if kind == "by lot":
        allowed[draw.choice(count, number, replace=False)] = True
    else:
        middle = collection.vectors[draw.integers(count)].astype(np.float32)
        likeness = collection.vectors.astype(np.float32) @ middle
        allowed[np.argpartition(likeness, -number)[-number:]] = True
    return allowed


def _recall(found: Found, true: Found) -> tuple[float, float]:
    """Recall and its margin."""
    return tuning.recall_of([rows for rows, _ in found], np.stack([rows for rows, _ in true]))
